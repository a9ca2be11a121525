# ruff: noqa: S608  (what is put into the text are constants of the layout; values are bound)
"""Concept tables: the codes of value sets and the hierarchies of code systems, put there when a search first asks for them.

Rules.
1. What a client loaded goes before what the specification publishes; of several resources with one URL the newest counts.
2. Tables hold what was asked for, never more: nothing is loaded at start. Writing any CodeSystem or ValueSet resource forgets (in its own
   transaction) what was loaded; a number is given again only after its old rows are gone.
3. Codes are spelled as in index rows, systems are terms. A member without code stands for all codes of its system.

Specification: https://hl7.org/fhir/R4/valueset.html#expansion, https://hl7.org/fhir/R4/codesystem.html#hierarchy
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.storage.sqlite.catalog import EVERY_SYSTEM, Catalog, Unloaded
from resources.definitions import Definitions, load
from resources.errors import FhirError
from resources.json_format import decode
from search.dialects.sqlite.layout import LIVE, NO_TERM
from search.types.token import key
from terminology import published
from terminology.expansion import NOTHING, NotExpandable, expand, subsumptions
from terminology.ports import CodeSystem, ValueSet

CONCEPT_TYPES: Final = frozenset({"CodeSystem", "ValueSet"})
"""Resource types that concept tables are made of."""

URL_ROWS: Final = {"CodeSystem": "system", "ValueSet": "url"}
"""Under what code the parameter `url` is stored (see search.parameters, rule 2)."""

_BY_URL: Final = (
    "SELECT r.body FROM uri u INDEXED BY sqlite_autoindex_uri_1 CROSS JOIN resource r ON r.rid = u.rid"
    f" WHERE u.param = ? AND u.value = ? AND r.state = {LIVE} ORDER BY r.updated DESC"
)
_BY_KEY: Final = f"SELECT body FROM resource WHERE type = ? AND id = ? AND state = {LIVE}"


@dataclass(frozen=True, slots=True)
class Published:
    """The ConceptStore over resources of the store and the specification's definitions."""

    catalog: Catalog
    definitions: Definitions

    def code_system(self, url: str) -> CodeSystem | None:
        """ConceptStore says what this does."""
        for resource in self._resources("CodeSystem", url):
            found = published.of_code_system(resource)
            if found is not None:
                return found
        return published.code_system(self.definitions, url)

    def value_set(self, url: str, version: str | None) -> ValueSet | None:
        """ConceptStore says what this does; `ValueSet/id` names a resource here."""
        for resource in self._resources("ValueSet", url):
            if version is None or resource.get("version") == version:
                return published.of_value_set(resource)
        return published.value_set(self.definitions, url, version)

    def code_systems(self) -> Iterator[str]:
        """The URLs of all code systems that may have concepts."""
        sql = f"SELECT body FROM resource WHERE type = ? AND state = {LIVE}"
        for (body,) in self.catalog.connection.execute(sql, (self.catalog.type("CodeSystem"),)).fetchall():
            resource = decode(body)
            if "url" in resource:
                yield resource["url"]
        yield from self.definitions.code_systems

    def _resources(self, kind: str, url: str) -> Iterator[dict[str, Any]]:
        execute, catalog = self.catalog.connection.execute, self.catalog
        if url.startswith(f"{kind}/"):
            rows = execute(_BY_KEY, (catalog.type(kind), url.removeprefix(f"{kind}/"))).fetchall()
        else:
            rows = execute(_BY_URL, (catalog.parameter(kind, URL_ROWS[kind]), url)).fetchall()
        for (body,) in rows:
            yield decode(body)


def load_missing(
    missing: Unloaded, connection: sqlite3.Connection, catalog: Catalog, term: Callable[[str], int]
) -> None:
    """Put what a search missed into the tables, inside the transaction in hand; `term` allots numbers of systems."""
    store = Published(catalog, load())
    if missing.value_set is not None:
        _load_value_set(*missing.value_set, store, connection, term)
    elif missing.system == EVERY_SYSTEM:
        for url in dict.fromkeys(store.code_systems()):
            _load_code_system(url, store, connection, term, hierarchies=True)
        connection.execute("INSERT OR REPLACE INTO code_system VALUES (?, '', '', 'all')", (NO_TERM,))
    else:
        _load_code_system(missing.system, store, connection, term, hierarchies=False)


def forget(connection: sqlite3.Connection) -> None:
    """Forget what was loaded: a resource that it may come from is being written."""
    connection.execute("DELETE FROM value_set")
    connection.execute("DELETE FROM code_system")


def _load_value_set(
    url: str, version: str | None, store: Published, connection: sqlite3.Connection, term: Callable[[str], int]
) -> None:
    """`state` says why the codes are not known, or nothing. FhirError 400 for a value set of which nothing is known."""
    value_set = store.value_set(url, version)
    if value_set is None:
        raise FhirError(
            400, "not-found", f"Value set '{url if version is None else f'{url}|{version}'}' is not known here."
        )
    state, found = "", NOTHING
    try:
        found = expand(value_set, store)
    except NotExpandable as reason:
        state = str(reason)
    execute = connection.execute
    execute("DELETE FROM value_set WHERE url = ? AND version = ?", (url, version or ""))
    number = execute(
        "INSERT INTO value_set(url, version, source, state) VALUES (?, ?, '', ?)", (url, version or "", state)
    ).lastrowid
    execute("DELETE FROM member WHERE value_set = ?", (number,))
    rows = {(number, key(system, code), term(system)) for system, code in found.codes}
    rows |= {(number, "", term(system)) for system in found.systems}
    connection.executemany("INSERT INTO member VALUES (?, ?, ?)", sorted(rows))


def _load_code_system(
    url: str, store: Published, connection: sqlite3.Connection, term: Callable[[str], int], *, hierarchies: bool
) -> None:
    """With `hierarchies` those alone that have one. FhirError 400 for a system of which nothing is known."""
    found = store.code_system(url)
    if hierarchies and (found is None or not any(found.parents.values())):
        return
    if found is None:
        raise FhirError(400, "not-found", f"The concepts of code system '{url}' are not known here.")
    number = term(url)
    execute, content = connection.execute, "complete" if found.complete else "partial"
    execute("INSERT OR REPLACE INTO code_system VALUES (?, ?, '', ?)", (number, found.version, content))
    execute("DELETE FROM subsumption WHERE system = ?", (number,))
    execute("DELETE FROM concept WHERE system = ?", (number,))
    under = {(number, key(url, above), key(url, code)) for above, code in subsumptions(found)}
    connection.executemany("INSERT INTO subsumption VALUES (?, ?, ?)", sorted(under))
    concepts = {key(url, code): found.displays.get(code, "") for code in found.parents}
    rows = sorted((number, code, display) for code, display in concepts.items())
    connection.executemany("INSERT INTO concept VALUES (?, ?, ?)", rows)
