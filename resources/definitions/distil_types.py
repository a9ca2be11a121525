"""Resources, datatypes, primitives and backbone elements, distilled from the snapshots of HL7's StructureDefinitions.

Rules.
1. Profiles and logical models are left out; an element's type profile (SimpleQuantity) is read as its type (Quantity).
2. An element with children is a backbone: a type of its own, named by its path. The invariants published on it are those of
   the backbone type, so that an element which refers to it by contentReference carries them as well.
3. An element keeps the invariants that not all of its types have on their root: `ele-1` and `ext-1` are said once, by the types.
4. The element `value` of a primitive is its text: only its regex is kept. The regexes are HL7's words, data and not advice:
   that of base64Binary backtracks without bound, uri's accepts the empty text, date's accepts 30 February, and string's
   `not a space` excludes Unicode spaces in Python, which it does not in other languages.
5. Types of the FHIRPath system are replaced by the FHIR type that their extension names. The id of a resource is an `id`, as
   the specification's pages say; the package itself says string.

Specification: https://hl7.org/fhir/R4/structuredefinition.html, https://hl7.org/fhir/R4/elementdefinition.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

Row: TypeAlias = list[Any]
Fact: TypeAlias = tuple[str, str, str]

CHOICE, SUMMARY, MODIFIER = 1, 2, 4
"""The bits of an element row's flags."""

_EXTENSION = "http://hl7.org/fhir/StructureDefinition/"
_SYSTEM = "http://hl7.org/fhirpath/System."

LANGUAGES: Final = "http://hl7.org/fhir/ValueSet/all-languages"
"""A maximum value set rather than a required one; for a code element it demands the same."""


def types(definitions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part `types`: `resources` (names), `constraints` (key, human, expression) and `types` (name -> type row).

    A type row is [kind, base, abstract, regex, constraint numbers, element rows]; an element row is
    [name, min, max or None, types, flags, targets, required binding or None, constraint numbers].
    """
    published = {d["id"]: d for d in definitions if _is_type(d)}
    roots = {name: _facts(d["snapshot"]["element"][0]) for name, d in published.items()}
    numbers = {fact: number for number, fact in enumerate(sorted(_all_facts(published.values())))}
    rows: dict[str, Row] = {}
    for definition in published.values():
        rows |= _rows(definition, roots, numbers)
    resources = sorted(name for name, d in published.items() if d["kind"] == "resource" and not d["abstract"])
    return {"resources": resources, "constraints": [list(fact) for fact in numbers], "types": rows}


def required_bindings(definitions: Sequence[Mapping[str, Any]]) -> set[str]:
    """The value sets, without version, to which an element of a type is bound with strength `required`."""
    elements = (e for d in definitions if _is_type(d) for e in d["snapshot"]["element"])
    return {url for element in elements if (url := _binding(element)) is not None} - {LANGUAGES}


def _is_type(definition: Mapping[str, Any]) -> bool:
    return definition.get("derivation") != "constraint" and definition["kind"] != "logical"


def _rows(
    definition: Mapping[str, Any], roots: Mapping[str, Sequence[Fact]], numbers: Mapping[Fact, int]
) -> dict[str, Row]:
    """The row of a type and those of its backbones."""
    name, kind, elements = definition["id"], definition["kind"], definition["snapshot"]["element"]
    parents = {element["path"].rpartition(".")[0] for element in elements} - {""}
    owned = {**roots, **{e["path"]: _facts(e) for e in elements if e["path"] in parents}}
    base = definition.get("baseDefinition", "").rpartition("/")[2] or None
    rows: dict[str, Row] = {}
    for element in elements:
        path = element["path"]
        if path == name:
            facts = [numbers[fact] for fact in owned.get(path, _facts(element))]
            rows[path] = [kind, base, definition["abstract"], _regex(elements), facts, []]
            continue
        if path in parents:
            rows[path] = ["backbone", element["type"][0]["code"], False, None, [numbers[f] for f in owned[path]], []]
        if not (kind == "primitive-type" and path == f"{name}.value"):
            rows[path.rpartition(".")[0]][5].append(_element(element, kind, parents, owned, numbers))
    return rows


def _element(
    element: Mapping[str, Any],
    kind: str,
    parents: set[str],
    owned: Mapping[str, Sequence[Fact]],
    numbers: Mapping[Fact, int],
) -> Row:
    path = element["path"]
    name = path.rpartition(".")[2]
    if "contentReference" in element:
        names = [element["contentReference"].removeprefix("#")]
    elif path in parents:
        names = [path]
    elif kind == "resource" and name == "id" and path.count(".") == 1:
        names = ["id"]
    else:
        names = list(dict.fromkeys(_type_name(entry) for entry in element["type"]))
    shared = set.intersection(*(set(owned.get(type_name, ())) for type_name in names))
    own = [numbers[fact] for fact in _facts(element) if fact not in shared]
    flags = (
        CHOICE * name.endswith("[x]")
        + SUMMARY * bool(element.get("isSummary"))
        + MODIFIER * bool(element.get("isModifier"))
    )
    most = None if element["max"] == "*" else int(element["max"])
    return [name.removesuffix("[x]"), element["min"], most, names, flags, _targets(element), _binding(element), own]


def _type_name(entry: Mapping[str, Any]) -> str:
    code: str = entry["code"]
    if not code.startswith(_SYSTEM):
        return code
    named = [
        e["valueUrl"] for e in entry.get("extension", ()) if e["url"] == f"{_EXTENSION}structuredefinition-fhir-type"
    ]
    return str(named[0]) if named else code.removeprefix(_SYSTEM).lower()


def _targets(element: Mapping[str, Any]) -> list[str]:
    found: dict[str, None] = {}
    for entry in element.get("type", ()):
        if entry["code"] in ("Reference", "canonical"):
            profiles = entry.get("targetProfile") or [f"{_EXTENSION}Resource"]
            found |= dict.fromkeys(profile.rpartition("/")[2] for profile in profiles)
    return ["Resource"] if "Resource" in found else list(found)


def _binding(element: Mapping[str, Any]) -> str | None:
    binding = element.get("binding", {})
    if binding.get("strength") == "required":
        return str(binding["valueSet"]).partition("|")[0]
    most = {said.get("valueCanonical") for said in binding.get("extension", ()) if said["url"].endswith("maxValueSet")}
    is_code = [kind["code"] for kind in element.get("type", ())] == ["code"]
    return LANGUAGES if is_code and LANGUAGES in most else None


def _regex(elements: Sequence[Mapping[str, Any]]) -> str | None:
    """The regex of a primitive; only the elements `value` of primitives have one."""
    types_of = (entry for element in elements for entry in element.get("type", ()))
    found = [
        e["valueString"] for entry in types_of for e in entry.get("extension", ()) if e["url"] == f"{_EXTENSION}regex"
    ]
    return found[0] if found else None


def _facts(element: Mapping[str, Any]) -> list[Fact]:
    errors = (c for c in element.get("constraint", ()) if c["severity"] == "error")
    return [(c["key"], c["human"], c["expression"]) for c in errors]


def _all_facts(definitions: Any) -> set[Fact]:
    return {fact for d in definitions for element in d["snapshot"]["element"] for fact in _facts(element)}
