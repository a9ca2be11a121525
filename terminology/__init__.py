"""Code systems, value sets, units: what codes mean."""
