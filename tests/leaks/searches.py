"""Requests that search: by every parameter, through references, in compartments, in every order and form of answer."""

from collections.abc import Iterator
from functools import cache

from tests.leaks.hospital import WORDS, seeds
from tests.leaks.index import indexed, pairs, parameters, quoted
from tests.leaks.worlds import Ask

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def values() -> Iterator[Ask]:
    """Each search parameter with what each seed has under it."""
    for seed, entries in indexed():
        kind, name = seed.type, seed.resource["id"]
        yield Ask("GET", f"{kind}?_id={name}")
        yield Ask("GET", f"{kind}?_id=ann,{name}&_total=accurate")
        yield Ask("GET", f"{kind}?_id:not={name}&_summary=count")
        for parameter, value in pairs(seed, entries):
            code = parameter.code
            yield Ask("GET", f"{kind}?{code}={quoted(value)}")
            yield Ask("GET", f"{kind}?{code}={quoted(value)}&_total=accurate&_count=0")
            if any(word in value for word in WORDS):
                yield Ask(
                    "GET",
                    f"{kind}?{code}:not={quoted(value)}"
                    if parameter.type == "token"
                    else f"{kind}?{code}:missing=false&{code}={quoted(value)}",
                )
                yield Ask("POST", f"{kind}/_search", f"{code}={quoted(value)}", tuple(FORM.items()))
                if parameter.type in ("token", "reference"):
                    yield Ask("GET", f"{kind}?{code}:text={quoted(value.rpartition('|')[2][:6])}")
                if parameter.type == "string":
                    yield Ask("GET", f"{kind}?{code}:contains={quoted(value[1:5])}")
                    wanted = f'{code} co "{value[1:5]}"'
                    yield Ask("GET", f"{kind}?_filter={quoted(wanted)}")


def chains() -> Iterator[Ask]:
    """What a hidden resource says, asked of one that refers to it or that it refers to."""
    for seed, entries in indexed():
        said = [
            (parameter.code, value) for parameter, value in pairs(seed, entries) if any(word in value for word in WORDS)
        ]
        for code, value in said[:4]:
            for other, parameter in _referring(seed.type):
                yield Ask("GET", f"{other}?{parameter}:{seed.type}.{code}={quoted(value)}&_total=accurate")
            for parameter in parameters(seed.type):
                if parameter.type == "reference":
                    for target in ("Patient", "Observation", "Practitioner", "Organization"):
                        if parameter.may_target(target):
                            yield Ask("GET", f"{target}?_has:{seed.type}:{parameter.code}:{code}={quoted(value)}")
        yield Ask("GET", f"Observation?patient._has:{seed.type}:patient:_id={seed.resource['id']}")
    for seed in seeds():
        if seed.type == "Patient":
            for code in ("name", "identifier", "birthdate", "general-practitioner.name", "organization.name"):
                value = f"{seed.resource['id']}family" if "name" in code else "1970"
                yield Ask("GET", f"Observation?subject:Patient.{code}={value}&_summary=count")
                yield Ask("GET", f"Observation?focus:Patient.{code}={value}")
                yield Ask("GET", f"DiagnosticReport?result.focus:Patient.{code}={value}")
                yield Ask("GET", f"Provenance?target:Observation.subject:Patient.{code}={value}")
    for value in ("quaggadonor", "quagga", "donor"):
        yield Ask("GET", f"Observation?focus:Patient.name={value}")
        yield Ask("GET", f"Observation?focus:Patient.identifier={value}")
        yield Ask("GET", f"Patient?_has:Observation:focus:_id={value}-value")
        yield Ask("GET", f"Observation?_has:Observation:derived-from:_id={value}-value")
        yield Ask("GET", f"Observation?_has:Provenance:target:agent:Practitioner.name={value}")


@cache
def _referring(kind: str) -> tuple[tuple[str, str], ...]:
    """Types of the hospital and their parameters that may refer to the type."""
    types = sorted({seed.type for seed in seeds()})
    found = [
        (other, parameter.code)
        for other in types
        for parameter in parameters(other)
        if parameter.type == "reference" and parameter.may_target(kind)
    ]
    return tuple(found[::7] if len(found) > 20 else found)


def shapes() -> Iterator[Ask]:
    """Totals, orders, pages, includes of each type, and of all."""
    for kind in (*sorted({seed.type for seed in seeds()}), "Bundle", "Device"):
        yield Ask("GET", kind)
        yield Ask("HEAD", kind)
        for query in (
            "_summary=count",
            "_total=accurate",
            "_count=0",
            "_count=1&_total=accurate",
            "_count=2&_sort=-_lastUpdated",
            "_sort=_id",
            "_lastUpdated=ge2026-11-01",
            "_summary=text",
            "_elements=id",
            "_contained=both",
            "_include=*",
            "_revinclude=*",
            "_include:iterate=*&_revinclude:iterate=*",
            "_security:not=NOPAT",
            "_security=NOPAT",
            "_text=quagga",
            "_content=quagga",
            "_content=okapi%20numbat",
            "_list=quagga-both",
            "_has:List:item:_id=quagga-both",
            "_has:Group:member:_id=quagga-group",
            "_explain=true",
        ):
            yield Ask("GET", f"{kind}?{query}")
        yield Ask("GET", f"{kind}/_history")
        yield Ask("GET", f"{kind}/_history?_count=0")
        yield Ask("GET", f"{kind}/_history?_count=2")
        yield Ask("GET", f"{kind}/_history?_list=quagga-both")
        yield Ask("GET", f"{kind}/_history?_at=2026-11-02")
        for parameter in parameters(kind):
            yield Ask("GET", f"{kind}?_sort={parameter.code}&_count=3")
            yield Ask("GET", f"{kind}?{parameter.code}:missing=true&_summary=count")
            if parameter.type == "reference":
                yield Ask("GET", f"{kind}?_include={kind}:{parameter.code}")
                for target in ("Patient", "Observation", "Practitioner"):
                    if parameter.may_target(target):
                        yield Ask("GET", f"{target}?_revinclude={kind}:{parameter.code}")
    yield Ask("GET", "")
    yield Ask("GET", "_history")
    yield Ask("GET", "_history?_count=3")
    yield Ask("GET", "?_type=Patient,Observation&_total=accurate")
    yield Ask("GET", "?_type=Patient,Observation&_content=quagga")
    yield Ask("POST", "_search", "_type=Patient&name=quagga", tuple(FORM.items()))


def compartments() -> Iterator[Ask]:
    """Compartment searches below each that may have one."""
    members = ("*", *sorted({seed.type for seed in seeds()}))
    for seed in seeds():
        if seed.type in ("Patient", "Practitioner", "Encounter", "RelatedPerson"):
            for member in members:
                yield Ask("GET", f"{seed.reference}/{member}")
                yield Ask("GET", f"{seed.reference}/{member}?_summary=count")
            yield Ask("POST", f"{seed.reference}/*/_search", "_count=5", tuple(FORM.items()))
            yield Ask("GET", f"Observation?patient={seed.reference}&_include=*")
    for parameter in ("patient", "subject", "subject:Patient"):
        for value in (
            "quagga",
            "Patient/okapi",
            "http://localhost:8000/fhir/Patient/quagga",
            "Patient/ann,Patient/quagga",
            "donor",
        ):
            for kind in ("Observation", "Condition", "Encounter"):
                yield Ask("GET", f"{kind}?{parameter}={quoted(value).replace('%5C%2C', ',')}&_total=accurate")
    yield Ask("GET", "Observation?patient=Patient/ann&patient=Patient/quagga")
    yield Ask("POST", "Observation/_search?patient=Patient/ann", "patient=Patient/quagga", tuple(FORM.items()))
    yield Ask("GET", "Observation?subject=Patient/quagga/_history/1")


def special() -> Iterator[Ask]:
    """Names of things that lead elsewhere."""
    for path in (
        "Observation?code:in=http://numbat.example.org/ValueSet/codes",
        "Observation?code:not-in=http://numbat.example.org/ValueSet/codes",
        "Location?partof:below=Location/quagga-ward",
        "Encounter?location:below=Location/quagga-ward",
        "Organization?partof:above=Organization/quagga-house",
        "Patient?organization:identifier=quagga",
        "Patient/ann/../quagga",
        "Patient/ann/%2e%2e/quagga",
        "Patient/ann;/quagga",
        "Patient//quagga",
        "Patient/quagga%00",
        "Patient/quagga/",
        "patient/quagga",
        "Observation?Patient=Patient/quagga",
        "Observation?patient:identifier=http://quagga.example.org/mrn|quagga-mrn",
        "Patient?_query=quagga",
        "Observation?_filter=subject%20re%20Patient/quagga",
        "Observation?_filter=focus.name%20eq%20quaggadonor",
        "Binary/quagga-binary",
        "Patient/quagga?_elements=name",
        "metadata",
    ):
        for method in ("GET", "HEAD"):
            yield Ask(method, path)
