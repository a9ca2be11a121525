"""Searches that must find a resource, derived from its own values alone: FHIRPath over the published parameters, no index.

Each search comes with whether it must find nothing else: then what it asks for is the whole value, as it is spelled.

Specification: https://hl7.org/fhir/R4/search.html
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import NamedTuple
from urllib.parse import quote

from tests.search import reference
from tests.search.reference import DEFINITIONS, definition, expression, fold

CONTACTS = ("phone", "fax", "email", "pager", "url", "sms", "other")
SKIPPED = ("special", "composite")


class Search(NamedTuple):
    """`query` for `Type?query`; `exact`: it finds those resources alone from whose values it is derived."""

    query: str
    exact: bool


def parameters(kind):
    """The codes that can be searched by on a type and have an expression that speaks of it."""
    rows = [row for row in DEFINITIONS.search_parameters if {kind, "Resource", "DomainResource"} & set(row.bases)]
    return sorted(
        {row.code for row in rows if row.expression and row.type not in SKIPPED and expression(kind, row.code)}
    )


def inside(resource, value) -> Iterator[Search]:
    """The searches of the contained resource that a value refers to, as the ends of a chain: `Type.code=value`."""
    text = value.get("reference", "") if isinstance(value, dict) else ""
    for inner in resource.get("contained", ()):
        if text == f"#{inner['id']}":
            found = (one.query for one in searches(inner) if not one.query.startswith("_"))
            yield from (Search(f"{inner['resourceType']}.{query}", False) for query in found)


def by(parameter, resource) -> Iterator[str]:
    """The searches by one SearchParameter resource that a resource must be found by."""
    for value in reference.path(parameter["expression"])(resource):
        for modifier, text, _ in forms("", "", parameter["type"], value):
            yield f"{parameter['code']}{modifier}={quote(text, safe='')}"


def composites(kind):
    rows = [row for row in DEFINITIONS.search_parameters if kind in row.bases and row.type == "composite"]
    return sorted({row.code for row in rows})


def searches(resource) -> Iterator[Search]:
    """Every search that a resource must be found by."""
    kind = resource["resourceType"]
    for code in parameters(kind):
        for value in values(resource, code):
            for modifier, text, exact in forms(kind, code, definition(kind, code).type, value):
                yield Search(f"{code}{modifier}={quote(text, safe='')}", exact)
            for one in inside(resource, value):
                yield Search(f"{code}:{one.query}", False)
    for code in composites(kind):
        for text in tuples(resource, code):
            yield Search(f"{code}={quote(text, safe='')}", False)


def values(resource, code):
    """The values of a parameter; of a reference only those that its one target allows."""
    kind = resource["resourceType"]
    path = re.sub(r"hasExtension\(('[^']*')\)", r"extension(\1).exists()", expression(kind, code))
    path = re.sub(r"^(Domain)?Resource\b", kind, path)
    only = reference.only_target(kind, code) if definition(kind, code).type == "reference" else None
    found = [value for value in reference.path(path)(resource) if value not in ({}, None) and not is_resource(value)]
    if only is None:
        return found
    return [value for value in found if reference.target_type(value) == only]


def is_resource(value):
    """Whether a value is the first entry of a Bundle, which is reached by chains."""
    return isinstance(value, dict) and "resourceType" in value


def forms(kind, code, form, value) -> Iterator[tuple[str, str, bool]]:
    """(modifier, value, exact) of the searches by one value of a parameter of type `form`; no code: not of a published one."""
    if form == "token":
        implicit = system_of(kind, code, value) if code and isinstance(value, str) else ""
        return tokens(value, implicit)
    if form == "reference":
        return references(value)
    return {"string": strings, "date": dates, "number": numbers, "quantity": quantities, "uri": uris}[form](value)


def escaped(text):
    return re.sub(r"([\\,|$])", r"\\\1", text)


# ---- tokens


def tokens(value, implicit):
    for system, code in codings(value, implicit):
        if code:
            yield "", escaped(code), False
        if system and code:
            yield "", f"{escaped(system)}|{escaped(code)}", True
        if system:
            yield "", f"{escaped(system)}|", False


def codings(value, implicit):
    """(system, code) of a value: the concept's codings, or the value itself."""
    if isinstance(value, bool):
        return [("", str(value).lower())]
    if isinstance(value, str):
        return [(implicit, value)]
    if "coding" in value or "value" not in value:
        return [(one.get("system", ""), one.get("code", "")) for one in value.get("coding", [value])]
    contact = value.get("system") in CONTACTS
    return [("" if contact else value.get("system", ""), value["value"])]


@cache
def element(kind, code):
    """The element that a plain path leads to, None for other expressions."""
    found, here = None, kind
    path = expression(kind, code).split(".")
    for name in path[1:]:
        property_ = DEFINITIONS.types[here].properties.get(name) if here in DEFINITIONS.types else None
        if property_ is None:
            return None
        found, here = property_.element, property_.type
    return found if here == "code" else None


def system_of(kind, code, value):
    """The one system that the required binding of a code has for it."""
    bound = element(kind, code)
    values = DEFINITIONS.value_set(bound.binding) if bound is not None and bound.binding else None
    systems = [system for system, codes in values.systems.items() if value in codes] if values else []
    return systems[0] if len(systems) == 1 else ""


# ---- the other types


def strings(value):
    for text, words in reference.texts(value, family=False):
        if not fold(text):
            continue
        yield "", escaped(text), False
        yield "", escaped(fold(text).split()[0]), False
        yield ":exact", escaped(text), True
        yield ":contains", escaped(text[1:] if fold(text[1:]) else text), False
        if words:
            yield "", escaped(fold(text).split()[-1]), False


def dates(value):
    if isinstance(value, str):
        for prefix in ("", "eq", "ge", "le"):
            yield "", prefix + value, False
        return
    if "repeat" in value or "event" in value:
        for one in [*value.get("event", ()), *filter(None, [value.get("repeat", {}).get("boundsPeriod")])]:
            yield from ((mark, text, exact) for mark, text, exact in dates(one) if text[:2] in ("ge", "le"))
        return
    for name, prefix in (("start", "ge"), ("end", "le")):
        if name in value:
            yield "", prefix + value[name], False


def numbers(value):
    for prefix in ("", "eq", "ge", "le"):
        yield "", f"{prefix}{value}", False


def quantities(value):
    if "value" not in value:
        for name, prefix in (("low", "ge"), ("high", "le")):
            if name in value:
                yield "", f"{prefix}{value[name]['value']}", False
        return
    comparator = value.get("comparator", "")
    code = value.get("code") or value.get("currency")
    system = value.get("system") or ("urn:iso:std:iso:4217" if "currency" in value else "")
    for prefix in [{"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}[comparator]] if comparator else ("", "ge", "le"):
        amount = f"{prefix}{value['value']}"
        yield "", amount, False
        if system and code:
            yield "", f"{amount}|{escaped(system)}|{escaped(code)}", False
        for unit in filter(None, {code, value.get("unit")}):
            yield "", f"{amount}||{escaped(unit)}", False


def uris(value):
    yield "", escaped(value), True
    if "|" in value:
        yield "", value, True
        yield "", value.partition("|")[0], False
    yield ":below", escaped(value), False
    yield ":above", escaped(value), False


def references(value):
    if isinstance(value, str):  # canonical
        yield "", escaped(value), False
        yield "", escaped(value.partition("|")[0]), False
        return
    if "identifier" in value:
        for system, code in codings(value["identifier"], ""):
            yield ":identifier", f"{escaped(system)}|{escaped(code)}", True
    text = value.get("reference", "#")
    found = reference.local(text)
    if found:
        yield "", "/".join(found), True
        yield "", found[1], False
        yield f":{found[0]}", found[1], True
    elif not text.startswith("#"):
        yield "", escaped(text), True


# ---- composites


def tuples(resource, code) -> Iterator[str]:
    """The values of a composite: of each tuple the combinations of its components' values."""
    kind = resource["resourceType"]
    row = definition(kind, code)
    for context in row.expression.split(" | "):
        if not re.match(rf"{kind}\b", context):
            continue
        for at in range(len(reference.path(context)(resource))):
            whole = context if "." not in context else f"{context}[{at}]"
            parts = [list(component(resource, whole, one)) for one in row.components]
            for texts in product(*parts):
                yield "$".join(texts)


def component(resource, whole, one):
    """The most precise forms of a component's values within a tuple."""
    form = next(row.type for row in DEFINITIONS.search_parameters if row.url == one.definition)
    for part in one.expression.split(" | "):
        path = part.replace(".as(", ".ofType(").replace("%resource.", f"{resource['resourceType']}.")
        if not part.startswith("%resource"):
            path = f"{whole}.{path}"
        for value in reference.path(path)(resource):
            for modifier, text, _ in forms("", "", form, value):
                if not modifier and not text.endswith("|"):
                    yield text


def decoded(body):
    """A resource whose numbers are written as they came."""
    return json.loads(body, parse_float=reference.Number, parse_int=reference.Number)
