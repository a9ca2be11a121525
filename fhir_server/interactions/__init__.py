"""FHIR's interactions, one module each: functions of (Service, FhirRequest). https://hl7.org/fhir/R4/http.html."""
