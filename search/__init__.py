"""What a FHIR search means: parameters, queries, index entries, and their translation into a store's statements."""
