# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""The verb of `$meta` over many resources, as a function of one connection: who bears which label.

The rows of `_profile`, `_tag` and `_security` are walked, so the cost is the number of labels that resources bear. Codes are folded in these rows, so the
label itself is read from a resource that bears it.

Specification: https://hl7.org/fhir/R4/resource-operation-meta.html
"""

from typing import Final

from fhir_server.storage.port import Stored
from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.reading import stored_row
from search.dialects import sqlite as dialect
from search.narrowing import Narrowing

_LABELS: Final = (
    ("_profile", "uri", "value"),
    ("_tag", "token", "code, system"),
    ("_security", "token", "code, system"),
)
"""Parameter, its table, the columns that tell labels apart."""
_BODY: Final = "SELECT id, version, updated, method, body FROM resource WHERE rid = ?"


def labelled(catalog: Catalog, kind: str | None, limit: int, narrowing: Narrowing) -> tuple[Stored, ...]:
    """Resources that together bear every label in use, at most `limit`."""
    found: list[Stored] = []
    for name in catalog.types() if kind is None else (kind,):
        access, values = dialect.holds(narrowing.of(name), "l.rid", name, catalog)
        rids: dict[int, None] = {}
        for code, table, label in _LABELS:
            sql = f"SELECT min(l.rid) FROM {table} l WHERE l.param = ? AND {access} GROUP BY {label} LIMIT ?"
            bound = (catalog.parameter(name, code), *values, limit)
            rids |= dict.fromkeys(rid for (rid,) in catalog.connection.execute(sql, bound))
        found += [
            stored_row(name, catalog.connection.execute(_BODY, (rid,)).fetchone())
            for rid in list(rids)[: limit - len(found)]
        ]
    return tuple(found)
