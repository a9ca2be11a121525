"""Who may do what: SMART on FHIR authorization. Nothing is built yet; the server runs on loopback with `--auth off` only."""
