"""Hypothesis strategies that make valid resources of every type from the definitions.

Values are structurally valid and satisfy required bindings; invariants of FHIRPath are not aimed at. Numbers carry their tokens.
"""

from typing import Any

from hypothesis import strategies as st

from resources.definitions import load
from resources.definitions.model import Element, TypeDefinition
from resources.json_format import Number

DEFINITIONS = load()
RESOURCES = tuple(sorted(DEFINITIONS.resource_types))
SENT = tuple(kind for kind in RESOURCES if kind != "AuditEvent")
"""What clients write: audit events are the server's own where it records."""

TEXT = st.sampled_from(
    ["x", "Müller", "a  b", 'say "hi"', "back\\slash", "line\nbreak", "漢字 🩺", "tab\there", "</script>", "é" * 30]
)
INTEGERS = st.integers(-(2**31), 2**31 - 1)
DECIMALS = st.sampled_from(
    ["1.00", "1e3", "-0", "0.00000001", "1.50E+2", "-0.0", "12345678901234567.123456789", "1E-400"]
).map(Number)
DATE_TIMES = ("2024", "2024-02", "2024-02-29", "2024-02-29T23:59:60.000Z", "1969-12-31T00:00:00.1234567-11:30")
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": INTEGERS,
    "unsignedInt": st.integers(0, 2**31 - 1),
    "positiveInt": st.integers(1, 2**31 - 1),
    "decimal": DECIMALS | INTEGERS,
    "string": TEXT,
    "markdown": TEXT,
    "code": st.sampled_from(["a", "two words", "ü"]),
    "uri": st.sampled_from(
        ["http://example.org/a", "urn:oid:1.2.3", "relative", "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"]
    ),
    "url": st.just("https://example.org/x?y=1#z"),
    "canonical": st.just("http://example.org/ValueSet/x|1.0#part"),
    "id": st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True),
    "oid": st.just("urn:oid:1.2.840"),
    "uuid": st.just("urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    "base64Binary": st.sampled_from(["aGk=", "aGkh"]),
    "date": st.sampled_from(DATE_TIMES[:3]),
    "dateTime": st.sampled_from(DATE_TIMES),
    "instant": st.sampled_from(DATE_TIMES[3:]),
    "time": st.sampled_from(["00:00:00", "23:59:59.999999"]),
    "xhtml": st.just('<div xmlns="http://www.w3.org/1999/xhtml"><p title="a">x &amp; y</p></div>'),
}
PLAIN: dict[str, Any] = {
    "boolean": True,
    "integer": -1,
    "unsignedInt": 0,
    "positiveInt": 1,
    "decimal": Number("1.00"),
    "string": "Müller",
    "markdown": "*x*",
    "code": "a",
    "uri": "http://example.org/a",
    "url": "https://example.org/x?y=1#z",
    "canonical": "http://example.org/ValueSet/x|1.0",
    "id": "one",
    "oid": "urn:oid:1.2.840",
    "uuid": "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "base64Binary": "aGk=",
    "date": "2024-02-29",
    "dateTime": "2024-02",
    "instant": "2024-02-29T23:59:59.000Z",
    "time": "00:00:00",
    "xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>',
}
BY_FORM = {
    "mimetypes": ("urn:ietf:bcp:13", "text/plain"),
    "ucum-units": ("http://unitsofmeasure.org", "mg/dL"),
    "LL379-9": ("http://loinc.org", "LA1-1"),
    "all-languages": ("urn:ietf:bcp:47", "de-CH"),
}
DEPTH = 3


@st.composite
def resources(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """A valid resource of type `kind`."""
    made = draw(_object(DEFINITIONS.types[kind], DEPTH))
    made.pop("contained", None)
    return {"resourceType": kind, **made}


def _object(definition: TypeDefinition, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.composite(_draw_object)(definition, depth)


def _draw_object(draw: st.DrawFn, definition: TypeDefinition, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    optional = [e for e in definition.elements.values() if not e.min and _may_be_drawn(definition, e)]
    chosen = (
        draw(st.lists(st.sampled_from(optional), max_size=4, unique_by=lambda e: e.name))
        if optional and depth > 0
        else []
    )
    required = [e for e in definition.elements.values() if e.min]
    for element in draw(st.permutations([*required, *chosen])):
        kind = _kind(draw, element, depth)
        name = f"{element.name}{kind[0].upper()}{kind[1:]}" if element.choice else element.name
        _fill(draw, made, name, element, kind, depth)
    if definition.name == "Extension":
        made.setdefault("url", "http://example.org/e")
        if not any(name.startswith("value") for name in made):
            made["valueString"] = draw(TEXT)
    elif not made or made.keys() == {"id"}:
        first = (
            next(e for e in definition.elements.values() if e.types[0] in PRIMITIVES and e.name != "id")
            if _simple(definition)
            else None
        )
        if first is None:
            made["extension"] = [{"url": "http://example.org/e", "valueBoolean": True}]
        else:
            _fill(draw, made, first.name if not first.choice else _named(first), first, first.types[0], depth)
    return made


def _simple(definition: TypeDefinition) -> bool:
    return any(e.types[0] in PRIMITIVES and e.name != "id" for e in definition.elements.values())


def _named(element: Element) -> str:
    return f"{element.name}{element.types[0][0].upper()}{element.types[0][1:]}"


def _may_be_drawn(definition: TypeDefinition, element: Element) -> bool:
    if definition.name == "Extension" and element.name == "extension":
        return False
    return element.name != "contained" and element.types != ("Resource",) and element.max != 0


def _kind(draw: st.DrawFn, element: Element, depth: int) -> str:
    simple = [name for name in element.types if name in PRIMITIVES]
    return draw(st.sampled_from(simple if simple and depth < 2 else list(element.types)))


def _fill(draw: st.DrawFn, made: dict[str, Any], name: str, element: Element, kind: str, depth: int) -> None:
    value = _value(element, kind, depth)
    many = element.max != 1
    made[name] = draw(st.lists(value, min_size=1, max_size=2)) if many else draw(value)
    if kind in PRIMITIVES and kind != "xhtml" and name not in ("id", "url") and draw(st.integers(0, 4)) == 0:
        extension = {"extension": [{"url": "http://example.org/e", "valueCode": "c"}]}
        if many:
            made[name].append(None)
            made[f"_{name}"] = [None] * (len(made[name]) - 1) + [extension]
        else:
            made[f"_{name}"] = extension


def _value(element: Element, kind: str, depth: int) -> st.SearchStrategy[Any]:
    if element.binding is not None:
        return _bound(element, kind)
    if kind in PRIMITIVES:
        return PRIMITIVES[kind]
    if kind == "Reference":
        target = element.targets[0] if element.targets and element.targets[0] != "Resource" else "Patient"
        return st.sampled_from(
            [{"reference": f"{target}/1"}, {"display": "someone"}, {"reference": "urn:uuid:" + "0" * 8}]
        )
    if kind == "Resource":
        return st.just({"resourceType": "Basic", "id": "inner", "code": {"text": "x"}})
    return _object(DEFINITIONS.types[kind], depth - 1)


def whole(kind: str) -> dict[str, Any]:
    """A resource of type `kind` with each element that the type defines, each with one plain value."""
    definition = DEFINITIONS.types[kind]
    names = [e for e in definition.elements.values() if _may_be_drawn(definition, e)]
    return {"resourceType": kind, **_plain_members(names)}


def _plain_members(elements: list[Element]) -> dict[str, Any]:
    made = {}
    for element in elements:
        kind = next((name for name in element.types if name in PRIMITIVES), element.types[0])
        value = _plain_value(element, kind)
        name = f"{element.name}{kind[0].upper()}{kind[1:]}" if element.choice else element.name
        made[name] = value if element.max == 1 else [value]
    return made


def _plain_value(element: Element, kind: str) -> Any:
    if element.binding is not None:
        codes = DEFINITIONS.value_set(element.binding)
        system, code = (
            BY_FORM[element.binding.rpartition("/")[2]]
            if codes is None
            else next((system, min(found)) for system, found in codes.systems.items() if found)
        )
        coding = {"system": system, "code": code}
        return code if kind == "code" else {"coding": [coding]} if kind == "CodeableConcept" else coding
    if kind in PLAIN:
        return PLAIN[kind]
    if kind == "Reference":
        return {"display": "someone"}
    if kind == "Extension":
        return {"url": "http://example.org/e", "valueCode": "c"}
    definition = DEFINITIONS.types[kind]
    required = [e for e in definition.elements.values() if e.min]
    usual = [e for e in definition.elements.values() if e.types[0] in PLAIN and e.name != "id" and e.binding is None]
    return _plain_members(required or usual[:1]) or {"extension": [{"url": "http://example.org/e", "valueCode": "c"}]}


def _bound(element: Element, kind: str) -> st.SearchStrategy[Any]:
    codes = DEFINITIONS.value_set(element.binding)
    if codes is None:
        pairs = [BY_FORM[element.binding.rpartition("/")[2]]]
    else:
        pairs = [(system, code) for system, found in codes.systems.items() for code in sorted(found)[:3]]
    drawn = st.sampled_from(pairs)
    if kind == "code":
        return drawn.map(lambda pair: pair[1])
    if kind == "CodeableConcept":
        return drawn.map(lambda pair: {"coding": [{"system": pair[0], "code": pair[1]}]})
    return drawn.map(lambda pair: {"system": pair[0], "code": pair[1]})
