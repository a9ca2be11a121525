"""HL7 v2 in and out. Nothing is built yet."""
