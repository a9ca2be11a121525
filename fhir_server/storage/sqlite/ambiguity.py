"""A bare id in a search (`subject=1`) stands for every type the reference may target: 400 where the store has two of them.

Rule: only what may be seen counts, so that the refusal tells nothing about other records.

Specification: https://hl7.org/fhir/R4/search.html#reference
"""

from collections.abc import Iterator

from fhir_server.storage.sqlite.catalog import Catalog
from resources.errors import FhirError
from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.narrowing import Narrowing
from search.query import Chain, Match, Node, ReferenceTest, Reverse, leaves


def refuse_ambiguous(node: Node, narrowing: Narrowing, catalog: Catalog) -> None:
    """Raise FhirError 400 for the first bare id in the node that two visible resources of the store have."""
    for match in _bare(node):
        assert isinstance(match.test, ReferenceTest)
        found = [key for key in match.test.keys if _is_seen(key, narrowing, catalog)]
        if len(found) > 1:
            types = ", ".join(key.type for key in found)
            said = f"Search parameter '{match.parameter.code}': '{found[0].id}' is the id of several resources ({types}): write Type/id."
            raise FhirError(400, "invalid", said)


def _bare(node: Node) -> Iterator[Match]:
    for leaf in leaves(node):
        match leaf:
            case Chain(where=where) | Reverse(where=where):
                yield from _bare(where)
            case Match(test=ReferenceTest(keys=keys)) if len(keys) > 1:
                yield leaf


def _is_seen(key: ResourceKey, narrowing: Narrowing, catalog: Catalog) -> bool:
    rid = catalog.rid(key)
    if rid < 0:
        return False
    statement = dialect.reachable(narrowing.of(key.type), key.type, [rid], catalog)
    return catalog.connection.execute(statement.sql, statement.values).fetchone() is not None
