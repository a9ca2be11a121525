"""Small reads beside the searches, as functions of one connection: keys of matches, narrowed queries, follow-up rows.

Rules: a row outside the narrowing is answered as one that does not exist; deleted resources have no entries, so with a narrowing they are outside it.

Specification: https://hl7.org/fhir/R4/http.html#search
"""

from dataclasses import replace

from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.reading import page_rows
from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.narrowing import Narrowing
from search.query import All, Query


def matched_keys(catalog: Catalog, query: Query, limit: int) -> frozenset[ResourceKey]:
    """The keys of the matches, at most `limit`."""
    rows = page_rows(catalog, dialect.page(query, catalog), limit)
    return frozenset(ResourceKey(query.type, row[-5]) for row in rows)


def narrowed(query: Query, narrowing: Narrowing) -> Query:
    """The query, and its `others`, with the narrowing of its type, unless it carries one already."""
    if query.others:
        query = replace(query, others=tuple(narrowed(other, narrowing) for other in query.others))
    if not isinstance(query.narrowing, All):
        return query
    node = narrowing.of(query.type)
    return query if isinstance(node, All) else replace(query, narrowing=node)


def follow_up(catalog: Catalog, kind: str, key: str) -> str | None:
    """The JSON of a follow-up row."""
    row = catalog.connection.execute("SELECT data FROM follow_up WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return None if row is None else row[0]
