"""The requests of the leak suite, generated from the route table, the operations and the registry of search parameters, about every seed.

Each function yields requests of one way of asking; `generated` gives all, in an order that is always the same. What asks for something hidden has a twin
that asks for the same of what is not there (`twin`).
"""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from urllib.parse import quote

from fhir_server.http.table import ROUTES
from fhir_server.operations import OPERATIONS
from resources.model import ResourceKey
from search.entries import Entries
from search.parameters import Parameter
from tests.leaks.hospital import WORDS, Seed, seeds
from tests.leaks.worlds import FHIR, Ask, parts

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NOWHERE = "nowhere"
_PATCH = json.dumps([{"op": "add", "path": "/language", "value": "fr"}])
_JSON_PATCH = (("Content-Type", "application/json-patch+json"),)
_MOST_VALUES = 3


def twin(ask: Ask, words: Iterable[str], initial: str = "z") -> Ask:
    """The same of what is not there: the words are changed to others that nothing has."""
    return Ask(
        ask.method,
        absent(ask.path, words, initial),
        absent(ask.body, words, initial),
        tuple((name, absent(value, words, initial)) for name, value in ask.headers),
    )


def absent(text: str, words: Iterable[str], initial: str = "z") -> str:
    """The text with each of the words changed, to one of the same length."""
    for word in words:
        text = text.replace(word, f"{initial}{word[1:]}")
    return text


@cache
def generated() -> tuple[Ask, ...]:
    """All requests, without repeats."""
    ways = (_routes, _values, _chains, _shapes, _compartments, _operations, _writes, _bundles, _special)
    return tuple(dict.fromkeys(chain.from_iterable(way() for way in ways)))


# ---- what there is to ask about


@cache
def _entries() -> tuple[tuple[Seed, Entries], ...]:
    """The seeds as they are indexed."""
    extractor = parts().preparer.extractor
    return tuple(
        (seed, extractor.extract(seed.resource, ResourceKey(seed.type, seed.resource["id"]))) for seed in seeds()
    )


def _parameters(kind: str) -> list[Parameter]:
    return [one for one in parts().registry.searchable(kind) if one.searchable]


def _said(parameter: Parameter, entries: Entries) -> Iterator[str]:
    """Values that find the resource by the parameter."""
    rows = parameter.rows or (parameter.code,)
    match parameter.type:
        case "token":
            for token in entries.tokens:
                if token.parameter in rows and not token.group:
                    yield f"{token.system}|{token.code}" if token.system else token.code
                    yield token.code
        case "string":
            yield from (one.exact for one in entries.strings if one.parameter in rows and one.exact)
        case "reference":
            yield from (str(one.target) for one in entries.references if one.parameter in rows)
            yield from (one.target.id for one in entries.references if one.parameter in rows)
            yield from (one.value for one in entries.uris if one.parameter in rows)
        case "uri":
            yield from (one.value for one in entries.uris if one.parameter in rows)
        case "date":
            yield from ("ge2026-11-01" for one in entries.dates if one.parameter in rows)
        case "special":
            yield from (one.word for one in entries.words if one.parameter in rows)


def _pairs(seed: Seed, entries: Entries) -> Iterator[tuple[Parameter, str]]:
    for parameter in _parameters(seed.type):
        if parameter.type != "composite":
            for value in tuple(dict.fromkeys(_said(parameter, entries)))[:_MOST_VALUES]:
                yield parameter, value


def _q(value: str) -> str:
    return quote(value.replace("\\", "\\\\").replace(",", "\\,"), safe="")


# ---- the ways of asking


def _routes() -> Iterator[Ask]:
    """Each row of the route table about each seed, and about what is not there."""
    for seed in seeds():
        for route in ROUTES:
            shape = route.shape
            if "$operation" in shape or "{member}" in shape or "{id}" not in shape:
                continue
            path = shape.strip("/").format(type=seed.type, id=seed.resource["id"], version=1)
            for method in route.methods:
                if method in ("GET", "HEAD"):
                    yield Ask(method, path)
                elif method == "DELETE":
                    continue  # with the writes
        for name in (f"{seed.resource['id']}-gone", NOWHERE):
            yield Ask("GET", f"{seed.type}/{name}")
            yield Ask("GET", f"{seed.type}/{name}/_history")
        here = seed.reference
        yield Ask("GET", f"{here}/_history/2")
        yield Ask("GET", f"{here}/_history?_count=0")
        yield Ask("GET", here, headers=(("If-None-Match", 'W/"1"'),))
        yield Ask("GET", here, headers=(("If-Modified-Since", "Tue, 01 Dec 2026 00:00:00 GMT"),))
        yield Ask("GET", f"{here}?_summary=true")
        yield Ask("GET", f"{here}?_elements=id")
        yield Ask("GET", f"{here}?_format=xml")
        yield Ask("GET", f"{here}?_pretty=true", headers=(("Accept", "application/fhir+json"),))


def _values() -> Iterator[Ask]:
    """Each search parameter with what each seed has under it."""
    for seed, entries in _entries():
        kind, name = seed.type, seed.resource["id"]
        yield Ask("GET", f"{kind}?_id={name}")
        yield Ask("GET", f"{kind}?_id=ann,{name}&_total=accurate")
        yield Ask("GET", f"{kind}?_id:not={name}&_summary=count")
        for parameter, value in _pairs(seed, entries):
            code = parameter.code
            yield Ask("GET", f"{kind}?{code}={_q(value)}")
            yield Ask("GET", f"{kind}?{code}={_q(value)}&_total=accurate&_count=0")
            if any(word in value for word in WORDS):
                yield Ask(
                    "GET",
                    f"{kind}?{code}:not={_q(value)}"
                    if parameter.type == "token"
                    else f"{kind}?{code}:missing=false&{code}={_q(value)}",
                )
                yield Ask("POST", f"{kind}/_search", f"{code}={_q(value)}", tuple(FORM.items()))
                if parameter.type in ("token", "reference"):
                    yield Ask("GET", f"{kind}?{code}:text={_q(value.rpartition('|')[2][:6])}")
                if parameter.type == "string":
                    yield Ask("GET", f"{kind}?{code}:contains={_q(value[1:5])}")
                    wanted = f'{code} co "{value[1:5]}"'
                    yield Ask("GET", f"{kind}?_filter={_q(wanted)}")


def _chains() -> Iterator[Ask]:
    """What a hidden resource says, asked of one that refers to it or that it refers to."""
    for seed, entries in _entries():
        said = [
            (parameter.code, value)
            for parameter, value in _pairs(seed, entries)
            if any(word in value for word in WORDS)
        ]
        for code, value in said[:4]:
            for other, parameter in _referring(seed.type):
                yield Ask("GET", f"{other}?{parameter}:{seed.type}.{code}={_q(value)}&_total=accurate")
            for parameter in _parameters(seed.type):
                if parameter.type == "reference":
                    for target in ("Patient", "Observation", "Practitioner", "Organization"):
                        if parameter.may_target(target):
                            yield Ask("GET", f"{target}?_has:{seed.type}:{parameter.code}:{code}={_q(value)}")
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
        for parameter in _parameters(other)
        if parameter.type == "reference" and parameter.may_target(kind)
    ]
    return tuple(found[::7] if len(found) > 20 else found)


def _shapes() -> Iterator[Ask]:
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
        for parameter in _parameters(kind):
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


def _compartments() -> Iterator[Ask]:
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
                yield Ask("GET", f"{kind}?{parameter}={_q(value).replace('%5C%2C', ',')}&_total=accurate")
    yield Ask("GET", "Observation?patient=Patient/ann&patient=Patient/quagga")
    yield Ask("POST", "Observation/_search?patient=Patient/ann", "patient=Patient/quagga", tuple(FORM.items()))
    yield Ask("GET", "Observation?subject=Patient/quagga/_history/1")


def _operations() -> Iterator[Ask]:
    """Each operation on each of its levels."""
    for row in OPERATIONS:
        for seed in seeds():
            kind, here = seed.type, seed.reference
            if "instance" in row.levels and row.answers("instance", kind):
                yield Ask("GET", f"{here}/{row.name}")
                yield Ask("POST", f"{here}/{row.name}", _arguments(row.name))
            if "version" in row.levels and row.answers("version", kind):
                yield Ask("GET", f"{here}/_history/1/{row.name}")
            if row.name == "$validate":
                yield Ask("POST", f"{kind}/$validate", json.dumps(seed.resource))
                yield Ask("GET", f"{here}/$validate?mode=delete")
                yield Ask("POST", f"{here}/$validate", _validated("update", seed.resource))
                yield Ask("POST", f"{kind}/$validate", _validated("create", seed.resource))
            if row.name == "$diff":
                yield Ask("GET", f"$diff?from=Observation/ann-laboratory&to={here}")
                yield Ask("GET", f"$diff?from={here}/_history/1&to={here}")
        for kind in sorted({seed.type for seed in seeds()}):
            if "type" in row.levels and row.answers("type", kind):
                yield Ask("GET", f"{kind}/{row.name}")
        if "system" in row.levels:
            yield Ask("GET", row.name)
            yield Ask("POST", row.name, _arguments(row.name))
    for name in ("quagga", "okapi", "ann", "donor"):
        yield Ask("GET", f"Observation/$lastn?patient=Patient/{name}&category=laboratory")
        yield Ask(
            "GET", f"Observation/$lastn?subject=Patient/{name}&code=http://{name}.example.org|{name}-laboratory-code"
        )
        yield Ask("GET", f"Patient/{name}/$everything?_count=3")
        yield Ask("GET", f"Patient/{name}/$everything?_type=Observation,Provenance")
        yield Ask("GET", f"Patient/{name}/$export")
        yield Ask("GET", f"Patient/$everything?patient={name}")
    for name in (
        "$export",
        "$graphql?query={Patient(id:%22quagga%22){id}}",
        "Group/quagga-group/$export",
        "Patient/$member-match",
    ):
        yield Ask("GET", name)


def _validated(mode: str, resource: dict) -> str:
    return json.dumps(
        {
            "resourceType": "Parameters",
            "parameter": [{"name": "mode", "valueCode": mode}, {"name": "resource", "resource": resource}],
        }
    )


def _arguments(name: str) -> str:
    parameters: list[dict] = []
    if name in ("$meta-add", "$meta-delete"):
        parameters.append({"name": "meta", "valueMeta": {"tag": [{"code": "seen"}]}})
    return json.dumps({"resourceType": "Parameters", "parameter": parameters})


def _writes() -> Iterator[Ask]:
    """Writes over, beside and by way of what there is; `ann-laboratory` and others of the visible are left alone."""
    for seed, entries in _entries():
        hidden = any(word in seed.reference for word in WORDS)
        body = json.dumps({**seed.resource, "language": "fr"})
        if hidden or seed.resource["id"] == "donor":
            yield Ask("PUT", seed.reference, body)
            yield Ask("PUT", seed.reference, body, (("If-Match", 'W/"1"'),))
            yield Ask("PUT", seed.reference, body, (("If-None-Match", "*"),))
            yield Ask("PATCH", seed.reference, _PATCH, _JSON_PATCH)
            yield Ask("PATCH", seed.reference, _PATCH, (*_JSON_PATCH, ("If-Match", 'W/"7"')))
            yield Ask("DELETE", seed.reference)
            yield Ask("DELETE", seed.reference, headers=(("If-Match", 'W/"7"'),))
            fresh = {name: value for name, value in seed.resource.items() if name != "id"}
            yield Ask("POST", seed.type, json.dumps(fresh))
            for parameter, value in _pairs(seed, entries):
                if parameter.type in ("token", "string") and any(word in value for word in WORDS):
                    criterion = f"{parameter.code}={_q(value)}"
                    yield Ask("PUT", f"{seed.type}?{criterion}", json.dumps(fresh))
                    yield Ask("PATCH", f"{seed.type}?{criterion}", _PATCH, _JSON_PATCH)
                    yield Ask("DELETE", f"{seed.type}?{criterion}")
                    yield Ask("POST", seed.type, json.dumps(fresh), (("If-None-Exist", criterion),))


def _entry(method: str, url: str, resource: dict | None = None, **more) -> dict:
    found: dict = {"request": {"method": method, "url": url, **more}}
    return found | ({"resource": resource} if resource is not None else {})


def _bundle(kind: str, *entries: dict) -> Ask:
    return Ask(
        "POST", "", json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)}), tuple(FHIR.items())
    )


def _bundles() -> Iterator[Ask]:
    """The same inside batches and transactions."""
    note = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "new"},
        "subject": {"reference": "Patient/ann"},
        "performer": [{"reference": "Patient/ann"}],
    }
    for kind in ("batch", "transaction"):
        for seed in seeds():
            if any(word in seed.reference for word in WORDS):
                yield _bundle(
                    kind, _entry("GET", seed.reference), _entry("GET", f"{seed.type}?_id={seed.resource['id']}")
                )
                yield _bundle(kind, _entry("PUT", seed.reference, {**seed.resource, "language": "fr"}))
                yield _bundle(kind, _entry("DELETE", seed.reference))
        for name in ("quagga", "okapi", "ann"):
            criterion = f"Patient?identifier=http://{name}.example.org/mrn|{name}-mrn"
            yield _bundle(kind, _entry("POST", "Observation", {**note, "subject": {"reference": criterion}}))
            yield _bundle(kind, _entry("POST", "Observation", {**note, "focus": [{"reference": criterion}]}))
            yield _bundle(kind, _entry("POST", "Observation", note, ifNoneExist=f"subject=Patient/{name}"))
            yield _bundle(kind, _entry("GET", f"http://localhost:8000/fhir/Patient/{name}/$everything"))
            yield _bundle(kind, _entry("GET", f"Patient/{name}/_history"))
            yield _bundle(
                kind,
                _entry(
                    "POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [_entry("GET", f"Patient/{name}")]}
                ),
            )


def _special() -> Iterator[Ask]:
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


def sample(asks: Iterable[Ask], every: int, offset: int) -> list[Ask]:
    """One of so many."""
    return list(asks)[offset % every :: every]
