"""The OpenAPI documents of the FHIR API, made from the tables that it is dispatched by.

`routes.openapi_routes` serves what `document.document` makes.
"""
