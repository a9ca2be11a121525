"""Patches of resources: JSON Patch and FHIRPath Patch as pure functions, and the difference of two resources as a FHIRPath Patch."""
