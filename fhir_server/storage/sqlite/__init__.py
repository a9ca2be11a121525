"""The SQLite store: WAL, group commit by one writer thread per process, inline reads under a time budget."""

from fhir_server.storage.sqlite.connection import SqliteOptions
from fhir_server.storage.sqlite.store import SqliteStore

__all__ = ["SqliteOptions", "SqliteStore"]
