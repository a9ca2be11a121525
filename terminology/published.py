"""Code systems and value sets as this server reads them: from the specification's definitions, and from resources.

Rules. Of a CodeSystem resource nested concepts lie under each other, and under what their property `parent` or `subsumedBy` names; a
supplement is no code system. A ValueSet without compose is its stored expansion.

Specification: https://hl7.org/fhir/R4/codesystem.html, https://hl7.org/fhir/R4/valueset.html
"""

from collections.abc import Iterable, Mapping
from typing import Any

from resources.definitions import Definitions
from terminology.ports import CodeSystem, ValueSet

WHOLE_SYSTEMS = {"http://loinc.org/vs": "http://loinc.org"}
"""Implicit value sets of all codes of a system; `<system>?fhir_vs` is another."""


def code_system(definitions: Definitions, url: str) -> CodeSystem | None:
    """The specification's code system, if it publishes concepts."""
    row = definitions.code_systems.get(url)
    if row is None or not row.get("concepts"):
        return None
    concepts = row["concepts"]
    return CodeSystem(
        url,
        row.get("version", ""),
        {code: tuple(parents) for code, parents, _ in concepts},
        {code: display for code, _, display in concepts if display},
        complete=row.get("content") == "complete",
    )


def value_set(definitions: Definitions, url: str, version: str | None) -> ValueSet | None:
    """The specification's value set, also one that is implied by a code system."""
    row = definitions.value_set_definitions.get(url)
    if row is not None:
        if version is not None and row.get("version") != version:
            return None
        return ValueSet(url, row.get("version", ""), row.get("compose") or {})
    system = url.removesuffix("?fhir_vs") if url.endswith("?fhir_vs") else WHOLE_SYSTEMS.get(url)
    if system is None:
        system = next((one for one, facts in definitions.code_systems.items() if facts.get("valueSet") == url), None)
    return None if system is None or version is not None else ValueSet(url, "", {"include": [{"system": system}]})


def of_code_system(resource: Mapping[str, Any]) -> CodeSystem | None:
    """A CodeSystem resource; None when it has no concepts, or supplements another."""
    if resource.get("content") == "supplement" or "url" not in resource or not resource.get("concept"):
        return None
    parents: dict[str, set[str]] = {}
    displays: dict[str, str] = {}
    waiting: list[tuple[Mapping[str, Any], str | None]] = [(one, None) for one in resource["concept"]]
    while waiting:
        concept, above = waiting.pop()
        code = concept["code"]
        over = parents.setdefault(code, set())
        if above is not None:
            over.add(above)
        over |= {
            one["valueCode"]
            for one in concept.get("property", ())
            if one.get("code") in ("parent", "subsumedBy") and "valueCode" in one
        }
        if "display" in concept:
            displays[code] = concept["display"]
        waiting += [(inner, code) for inner in concept.get("concept", ())]
    return CodeSystem(
        resource["url"],
        resource.get("version", ""),
        {code: tuple(sorted(over)) for code, over in parents.items()},
        displays,
        complete=resource.get("content") == "complete",
    )


def of_value_set(resource: Mapping[str, Any]) -> ValueSet:
    """A ValueSet resource."""
    url, version = resource.get("url", ""), resource.get("version", "")
    if "compose" in resource:
        return ValueSet(url, version, resource["compose"])
    contains = resource.get("expansion", {}).get("contains", ())
    return ValueSet(url, version, None, tuple(_expanded(contains)))


def _expanded(contains: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    waiting = list(contains)
    while waiting:
        one = waiting.pop()
        if "code" in one and not one.get("abstract"):
            yield one.get("system", ""), one["code"]
        waiting += one.get("contains", ())
