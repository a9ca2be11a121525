"""Where resources are kept: the port that the product asks of a store, and its adapters."""
