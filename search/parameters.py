"""The registry of search parameters: what each code means on each resource type, base and custom.

Rules.
1. A published parameter is cut down to the parts of its expression that speak of the type; where none does (HL7's `part-agree` on
   Patient), it has no expression and cannot be searched.
2. Parameters that say the same thing share rows. `X.where(resolve() is Patient)` reads the rows of `X` with `only_target`; equal
   expressions of one search type share the rows of the first code, each with `only_target` where they differ in their one target;
   a union whose parts are other parameters reads theirs.
3. A composite over the resource itself is a conjunction of its components: no rows of its own, save for a component that no
   parameter indexes. A composite over several contexts is the alternative of those composites that have one each. Every other
   composite stores its components as `<code>/1`, `<code>/2`, with the tuple's group.
4. A component of a conjunction reads the rows of the parameter it is defined by. `code-value-quantity` so finds SampledData too, which
   `value-quantity` covers and the component's own expression leaves out: the price of not storing each quantity twice.

Nothing is computed for a type before it is asked for.
Specification: https://hl7.org/fhir/R4/searchparameter.html, https://hl7.org/fhir/R4/search.html#combining
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from resources.definitions import Definitions
from resources.definitions.model import SearchComponent, SearchParameterDefinition

ParameterType = Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]

COLUMNS = frozenset({"_id", "_lastUpdated"})
"""Parameters that every store keeps as columns of a resource, not as index entries."""
FULL_TEXT = frozenset({"_text", "_content"})
"""Parameters of words, which are indexed where that is switched on."""
_SPECIAL = FULL_TEXT | {"near"}
"""Parameters of type special that have rules of their own."""

_ABSTRACT = ("Resource", "DomainResource")
_FIRST_NAME = re.compile(r"\(*([A-Za-z]+)")
_AS = re.compile(r"\(([A-Za-z.]+) as ([A-Za-z]+)\)")
_RESOLVES = re.compile(r"(.+)\.where\(resolve\(\) is ([A-Za-z]+)\)")
_UNION_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[()|]")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter on one concrete resource type.

    `rows` are the codes under which its entries are stored: usually its own; `Observation.patient` reads the rows of `subject`
    (with `only_target` Patient), `combo-code` those of `code` and `component-code`. `targets` are the allowed reference targets.
    `components` of a composite are the parameters of its parts, whose entries carry the tuple's group, unless it is a
    `conjunction`: then they are ordinary parameters. `alternatives` are the composites any of which suffices. `refused` says
    why searches may not use it yet; its rows are made all the same.
    """

    base: str
    code: str
    type: ParameterType
    url: str
    expression: str | None
    targets: tuple[str, ...] = ()
    components: tuple["Parameter", ...] = ()
    rows: tuple[str, ...] = ()
    only_target: str | None = None
    conjunction: bool = False
    alternatives: tuple["Parameter", ...] = ()
    refused: str = ""

    def __hash__(self) -> int:
        return hash((self.base, self.code))

    @property
    def searchable(self) -> bool:
        """Whether a search can use it: it has an expression and a type with rules of its own."""
        return self.expression is not None and (self.type != "special" or self.code in _SPECIAL)

    def may_target(self, name: str) -> bool:
        """Whether a reference of this parameter may be to a resource of type `name`."""
        if self.only_target is not None:
            return self.only_target == name
        return not self.targets or name in self.targets or "Resource" in self.targets


class Registry:
    """The search parameters by resource type: the specification's and custom ones.

    `full_text`: whether `_text` and `_content` are among them. `epoch` tells one state of the custom ones from another; whoever keeps
    what it read here looks at it. A custom parameter shares no rows, so that it changes nothing for others.
    """

    def __init__(self, definitions: Definitions, *, full_text: bool = False) -> None:
        self._definitions = definitions
        self.full_text = full_text
        self._tables: dict[str, _Table] = {}
        self._custom: tuple[SearchParameterDefinition, ...] = ()
        self._refused: Mapping[str, str] = {}
        self.epoch = 0

    def fork(self) -> "Registry":
        """A registry of the same parameters that can be changed on its own."""
        other = Registry(self._definitions, full_text=self.full_text)
        other._tables = dict(self._tables)
        other._custom, other._refused, other.epoch = self._custom, self._refused, self.epoch
        return other

    def replace(self, custom: Iterable[SearchParameterDefinition], refused: Mapping[str, str], epoch: int) -> None:
        """Have these custom parameters from now on; `refused`: URL -> why a parameter may not be searched by yet."""
        self._custom, self._refused, self.epoch = tuple(custom), dict(refused), epoch
        self._tables = {}

    def by_url(self, url: str) -> SearchParameterDefinition | None:
        """The definition with a canonical URL, published or custom."""
        return self._by_url.get(url) or next((one for one in self._custom if one.url == url), None)

    def is_published(self, url: str) -> bool:
        """Whether a published parameter has the canonical URL."""
        return url in self._by_url

    def custom(self, type_name: str, definition: SearchParameterDefinition) -> Parameter:
        """A custom definition on one type: rows of its own, the components of a composite too."""
        parts = [part for part in union(definition.expression or "") if _speaks_of(part, type_name)]
        found = Parameter(
            type_name,
            definition.code,
            definition.type,
            definition.url,
            " | ".join(parts) or None,
            definition.targets,
            rows=(definition.code,),
            refused=self._refused.get(definition.url, ""),
        )
        if definition.type != "composite":
            return found
        components = []
        for at, one in enumerate(definition.components, 1):
            defined, code = self.by_url(one.definition), f"{definition.code}/{at}"
            if defined is None:
                return replace(found, expression=None)
            components.append(
                Parameter(type_name, code, defined.type, defined.url, one.expression, defined.targets, rows=(code,))
            )
        return replace(found, components=tuple(components))

    def is_type(self, name: str) -> bool:
        """Whether `name` is a concrete resource type."""
        return self._definitions.is_resource(name)

    def types(self) -> tuple[str, ...]:
        """The concrete resource types."""
        return self._definitions.resource_types

    def find(self, type_name: str, code: str) -> Parameter | None:
        """The parameter with the code, searchable or not; None for an unknown one."""
        return self._table(type_name).parameters.get(code)

    def of(self, type_name: str) -> Mapping[str, Parameter]:
        """All parameters of the type by code, those of Resource and DomainResource included, searchable or not."""
        return self._table(type_name).parameters

    def searchable(self, type_name: str) -> tuple[Parameter, ...]:
        """The parameters that a search of the type can use, sorted by code."""
        return tuple(p for _, p in sorted(self.of(type_name).items()) if p.searchable and not p.refused)

    def stored(self, type_name: str) -> tuple[Parameter, ...]:
        """The parameters that have rows of their own: what index entries are made for. Grouped composites hold their components."""
        return self._table(type_name).stored

    def _table(self, type_name: str) -> "_Table":
        found = self._tables.get(type_name)
        if found is None:
            whole = self._definitions.types[type_name].base == "DomainResource"
            bases = (type_name, *(("DomainResource",) if whole else ()), "Resource")
            rows = {row.code: row for base in reversed(bases) for row in reversed(self._by_base.get(base, []))}
            table = _Builder(type_name, rows, self._by_url, self.full_text).table()
            found = self._tables[type_name] = self._completed(type_name, bases, table)
        return found

    def _completed(self, type_name: str, bases: tuple[str, ...], table: "_Table") -> "_Table":
        """The published table with refusals, and with the custom parameters that are on the type."""
        known = {code: self._judged(parameter) for code, parameter in table.parameters.items()}
        stored = [self._judged(parameter) for parameter in table.stored]
        for definition in self._custom:
            if definition.code not in known and not set(bases).isdisjoint(definition.bases):
                added = self.custom(type_name, definition)
                if added.searchable:
                    known[definition.code] = added
                    stored.append(added)
        return _Table(MappingProxyType(known), tuple(stored))

    def _judged(self, parameter: Parameter) -> Parameter:
        """A published parameter: nothing but the setting refuses one, whatever URL a custom one takes, for access rules search by them."""
        refused = self._refused.get(parameter.url) if parameter.code in FULL_TEXT else None
        return parameter if refused is None else replace(parameter, refused=refused)

    @cached_property
    def _by_base(self) -> dict[str, list[SearchParameterDefinition]]:
        found: dict[str, list[SearchParameterDefinition]] = {}
        for row in self._definitions.search_parameters:
            for base in row.bases:
                found.setdefault(base, []).append(row)
        return found

    @cached_property
    def _by_url(self) -> dict[str, SearchParameterDefinition]:
        return {row.url: row for row in self._definitions.search_parameters}


@dataclass(frozen=True, slots=True)
class _Table:
    parameters: Mapping[str, Parameter]
    stored: tuple[Parameter, ...]


# ---- expressions


def union(expression: str) -> Iterator[str]:
    """The branches of a union at the top, trimmed."""
    depth, start = 0, 0
    for found in _UNION_TOKEN.finditer(expression):
        if found[0] in "()":
            depth += 1 if found[0] == "(" else -1
        elif found[0] == "|" and depth == 0:
            yield expression[start : found.start()].strip()
            start = found.end()
    yield expression[start:].strip()


def _speaks_of(part: str, type_name: str) -> bool:
    """Whether a branch is about the type: it begins with it, with an abstract type, or with an element."""
    found = _FIRST_NAME.match(part)
    return found is not None and (found[1] in (type_name, *_ABSTRACT) or found[1][0].islower())


def _normal(part: str, context: str) -> str:
    """One spelling for branches that mean the same, from the root of `context`.

    `(Observation.value as Quantity)` and `value.as(Quantity)` -> `Observation.value.as(quantity)`.
    """
    part = _AS.sub(r"\1.as(\2)", part).replace(".ofType(", ".as(")
    part = re.sub(r"\.as\((\w+)\)", lambda found: found[0].lower(), part)
    if part.startswith("(") and part.endswith(")") and part.count("(") == 1:
        part = part[1:-1]
    head, dot, rest = part.partition(".")
    if head in _ABSTRACT:
        return f"{context}{dot}{rest}"
    return part if head[:1].isupper() else f"{context}.{part}"


# ---- one type


class _Builder:
    """Works out one type's table from the published rows that apply to it."""

    def __init__(
        self,
        type_name: str,
        rows: Mapping[str, SearchParameterDefinition],
        by_url: Mapping[str, SearchParameterDefinition],
        full_text: bool,
    ) -> None:
        self.type = type_name
        self.rows = rows
        self.by_url = by_url
        self.full_text = full_text
        self.parts = {code: self.parts_of(row) for code, row in rows.items()}
        self.normals = {
            code: frozenset(_normal(part, type_name) for part in parts) for code, parts in self.parts.items()
        }
        self.extra: list[Parameter] = []

    def table(self) -> _Table:
        made = {code: self.simple(row) for code, row in self.rows.items() if row.type != "composite"}
        made = {code: self.sharing(parameter, made) for code, parameter in made.items()}
        composites = {code: self.composite(row, made) for code, row in self.rows.items() if row.type == "composite"}
        made |= {code: self.alternative(row, composites) for code, row in self.rows.items() if code in composites}
        kept = [
            parameter
            for code, parameter in made.items()
            if parameter.searchable and code not in COLUMNS and code in parameter.rows
        ]
        return _Table(MappingProxyType(made), (*kept, *self.extra))

    def parts_of(self, row: SearchParameterDefinition) -> tuple[str, ...]:
        """The branches about this type, as written."""
        if row.expression is None:
            return ()
        return tuple(part for part in union(row.expression) if _speaks_of(part, self.type))

    def simple(self, row: SearchParameterDefinition) -> Parameter:
        """The parameter with rows of its own."""
        if row.code in FULL_TEXT:
            whole = "%resource" if self.full_text else None
            return Parameter(self.type, row.code, "special", row.url, whole, rows=(row.code,))
        expression = " | ".join(self.parts[row.code]) or None
        return Parameter(self.type, row.code, row.type, row.url, expression, row.targets, rows=(row.code,))

    # ---- rows that several parameters share

    def sharing(self, parameter: Parameter, made: Mapping[str, Parameter]) -> Parameter:
        """The parameter with the rows of others, where these hold exactly what it says."""
        if not parameter.searchable or parameter.code in COLUMNS or parameter.type == "special":
            return parameter
        wanted = self.normals[parameter.code]
        stripped, target = _stripped(wanted) if parameter.type == "reference" else (wanted, None)
        own = self.own_target(parameter, wanted, made)
        for parts, only in ((wanted, own), (stripped, target)):
            rows = self.cover(parameter, parts, made)
            if rows:
                return replace(parameter, rows=rows, only_target=only)
        return replace(parameter, only_target=own)

    def own_target(self, parameter: Parameter, wanted: frozenset[str], made: Mapping[str, Parameter]) -> str | None:
        """The one target of a reference whose expression another parameter has for other targets: `Bundle.message`."""
        if parameter.type != "reference" or len(parameter.targets) != 1:
            return None
        twins = [other for code, other in made.items() if other.type == "reference" and self.normals[code] == wanted]
        return parameter.targets[0] if any(other.targets != parameter.targets for other in twins) else None

    def cover(self, parameter: Parameter, wanted: frozenset[str], made: Mapping[str, Parameter]) -> tuple[str, ...]:
        """Codes of other parameters whose branches together are `wanted`, none left over; () when there are none."""
        found: list[str] = []
        covered: frozenset[str] = frozenset()
        for code in sorted(made, key=lambda code: (-len(self.parts[code]), code)):
            other, parts = made[code], self.normals[code]
            if other.type != parameter.type or not parts or not parts <= wanted or parts & covered:
                continue
            if code == parameter.code or code in COLUMNS:
                continue
            same = self.normals[parameter.code]
            # of equal ones the first by code has the rows
            if (parts == same and code > parameter.code) or (parts != same and self.is_shared(code, made)):
                continue
            found.append(code)
            covered |= parts
        return tuple(sorted(found)) if found and covered == wanted else ()

    def is_shared(self, code: str, made: Mapping[str, Parameter]) -> bool:
        """Whether the rows of `code` are another's, so that a union names the other."""
        return self.cover(made[code], self.normals[code], made) != ()

    # ---- composites

    def composite(self, row: SearchParameterDefinition, made: Mapping[str, Parameter]) -> Parameter:
        """The composite: a conjunction, or grouped."""
        expression = " | ".join(self.parts[row.code]) or None
        found = Parameter(self.type, row.code, "composite", row.url, expression)
        if set(self.parts[row.code]) == {self.type}:
            components = tuple(self.rooted(row, at, made) for at in range(len(row.components)))
            return replace(found, components=components, conjunction=True)
        components = tuple(self.component(row, at, one.expression) for at, one in enumerate(row.components))
        return replace(found, components=components, rows=(row.code,))

    def component(self, row: SearchParameterDefinition, at: int, expression: str) -> Parameter:
        defined = self.by_url[row.components[at].definition]
        code = f"{row.code}/{at + 1}"
        return Parameter(self.type, code, defined.type, defined.url, expression, defined.targets, rows=(code,))

    def rooted(self, row: SearchParameterDefinition, at: int, made: Mapping[str, Parameter]) -> Parameter:
        """A component of a conjunction: the parameter that says the same, or one of its own."""
        one = row.components[at]
        wanted = frozenset(_normal(part, self.type) for part in union(one.expression))
        code = self.by_url[one.definition].code
        if code in made and self.indexed(code) == wanted:
            return made[code]
        own = self.component(row, at, " | ".join(sorted(wanted)))
        if own not in self.extra:
            self.extra.append(own)
        return own

    def indexed(self, code: str) -> frozenset[str]:
        return frozenset(part for part in self.normals[code] if not part.endswith(".as(sampleddata)"))

    def alternative(self, row: SearchParameterDefinition, composites: Mapping[str, Parameter]) -> Parameter:
        """The composite as the alternative of those that have one of its contexts each, where there are such."""
        parameter = composites[row.code]
        contexts = self.parts[row.code]
        if len(contexts) == 1:
            return parameter
        shape = _shape(row.components)
        found = {
            self.parts[code][0]: other
            for code, other in composites.items()
            if len(self.parts[code]) == 1 and _shape(self.rows[code].components) == shape
        }
        if not set(contexts) <= set(found):
            return parameter
        alternatives = tuple(found[context] for context in contexts)
        return replace(parameter, components=alternatives[0].components, rows=(), alternatives=alternatives)


def _shape(components: Iterable[SearchComponent]) -> tuple[str, ...]:
    return tuple(component.expression for component in components)


def _stripped(parts: frozenset[str]) -> tuple[frozenset[str], str | None]:
    """`{X.where(resolve() is T), Y.where(resolve() is T)}` -> `{X, Y}, T`; other branches as they are, None."""
    found = [_RESOLVES.fullmatch(part) for part in parts]
    targets = {match[2] for match in found if match is not None}
    if not all(found) or len(targets) != 1:
        return parts, None
    return frozenset(match[1] for match in found if match is not None), targets.pop()
