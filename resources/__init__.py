"""What a FHIR resource is: JSON with lossless numbers, its definitions, its validation. Imports nothing of ours."""
