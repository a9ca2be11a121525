"""FHIR's operations, one module each, declaring its OperationDefinition. None is built yet: `$name` answers 404 by name."""
