"""OAuth 2.0 and OpenID Connect: the endpoints that are not pages.

Import `smart_auth.oauth.endpoints.routes` for the routes and `smart_auth.oauth.authorization` for what the pages call.
"""
