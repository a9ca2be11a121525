"""The bases under which a store was served last: an absolute reference below one of them is a reference to this server.

The server writes them down, because `check` and `reindex` run without the server's flags and have to read references as it does.
"""

import json
import sqlite3

from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import FileLock
from fhir_server.storage.sqlite.custom import customs
from resources.definitions import load
from search.extract import Extractor
from search.parameters import Registry

_KEY = "bases"


def remember_bases(connection: sqlite3.Connection, lock: FileLock, settings: Settings) -> None:
    """Write down the bases of a server that starts."""
    bases = _configured(settings)
    if _remembered(connection) != bases:
        with lock.held():
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, json.dumps(bases).encode()))


def own_bases(connection: sqlite3.Connection, settings: Settings) -> tuple[str, ...]:
    """The bases that the store was served under; those of the settings when it never was."""
    return _remembered(connection) or _configured(settings)


def extractor_of(connection: sqlite3.Connection, settings: Settings) -> tuple[Registry, Extractor]:
    """What makes the index entries of this store."""
    definitions = load()
    registry = Registry(definitions, full_text=settings.search.full_text)
    customs(connection).give(registry)
    return registry, Extractor(definitions, registry, own_bases(connection, settings))


def _configured(settings: Settings) -> tuple[str, ...]:
    return (settings.base, *settings.base_aliases)


def _remembered(connection: sqlite3.Connection) -> tuple[str, ...]:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    return () if row is None else tuple(json.loads(row[0]))
