"""Compilers of queries to the statements of a kind of store; none imports a database module."""
