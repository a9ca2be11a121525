"""Where a resource holds links: every Reference.reference, uri, url, oid, uuid and narrative; compiled per type when first needed.

Canonicals are no links. What is not as the definitions say is passed over: the walker reports it.

Specification: https://hl7.org/fhir/R4/http.html#trules
"""

from collections.abc import Callable
from typing import Any, Final

from resources.definitions.model import Property
from resources.references import Link, LinkKind
from resources.validation.primitives import CHECKS
from resources.validation.walker import Definitions

_Visit = Callable[[Any, str, list[Link]], None]
_KINDS: Final[dict[str, LinkKind]] = {"uri": "uri", "url": "url", "oid": "oid", "uuid": "uuid", "xhtml": "xhtml"}


class Links:
    """The link-bearing places of all types."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._tables: dict[str, dict[str, _Visit]] = {}

    def of(self, resource: Any) -> list[Link]:
        """The places of `resource` that hold a link, in the order of the document."""
        found: list[Link] = []
        self._resource(resource, found)
        return found

    def _resource(self, value: Any, found: list[Link]) -> None:
        kind = value.get("resourceType") if value.__class__ is dict else None
        if kind.__class__ is str and self._definitions.is_resource(kind):
            self._walk(value, kind, found)

    def _walk(self, value: Any, kind: str, found: list[Link]) -> None:
        table = self._tables.get(kind)
        if table is None:
            table = self._tables[kind] = self._table(kind)
        for name in value:
            visit = table.get(name)
            if visit is not None:
                visit(value, name, found)

    def _table(self, kind: str) -> dict[str, _Visit]:
        definition = self._definitions.types[kind]
        table: dict[str, _Visit] = {}
        for name, meaning in definition.properties.items():
            visit = self._visit(kind, meaning)
            if visit is not None:
                table[name] = visit
            if meaning.type in CHECKS:
                table[f"_{name}"] = self._inner("Element")
        return table

    def _visit(self, owner: str, meaning: Property) -> _Visit | None:
        if owner == "Reference" and meaning.name == "reference":
            return _place("Reference")
        if meaning.type in _KINDS and not (owner == "Reference" and meaning.name == "type"):
            return _place(_KINDS[meaning.type])
        return None if meaning.type in CHECKS else self._inner(meaning.type)

    def _inner(self, kind: str) -> _Visit:
        is_resource = self._definitions.types[kind].kind == "resource"

        def visit(value: Any, name: str, found: list[Link]) -> None:
            item = value[name]
            for part in item if item.__class__ is list else (item,):
                if part.__class__ is not dict:
                    continue
                if is_resource:
                    self._resource(part, found)
                else:
                    self._walk(part, kind, found)

        return visit


def _place(kind: LinkKind) -> _Visit:
    def visit(value: Any, name: str, found: list[Link]) -> None:
        item = value[name]
        if item.__class__ is str:
            found.append(Link(value, name, kind))
        elif item.__class__ is list:
            found.extend(Link(item, index, kind) for index, part in enumerate(item) if part.__class__ is str)

    return visit
