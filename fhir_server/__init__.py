"""The running product: HTTP, interactions, storage, processes. The only package that knows FastAPI and databases."""
