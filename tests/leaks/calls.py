"""Requests that name what they are about: the rows of the route table, the operations, writes, and all of these inside Bundles."""

import json
from collections.abc import Iterator

from fhir_server.http.table import ROUTES
from fhir_server.operations import OPERATIONS
from tests.leaks.hospital import WORDS, seeds
from tests.leaks.index import indexed, pairs, quoted
from tests.leaks.worlds import FHIR, Ask

_NOWHERE = "nowhere"
_PATCH = json.dumps([{"op": "add", "path": "/language", "value": "fr"}])
_JSON_PATCH = (("Content-Type", "application/json-patch+json"),)


def routes() -> Iterator[Ask]:
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
        for name in (f"{seed.resource['id']}-gone", _NOWHERE):
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


def operations() -> Iterator[Ask]:
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


def writes() -> Iterator[Ask]:
    """Writes over, beside and by way of what there is; `ann-laboratory` and others of the visible are left alone."""
    for seed, entries in indexed():
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
            for parameter, value in pairs(seed, entries):
                if parameter.type in ("token", "string") and any(word in value for word in WORDS):
                    criterion = f"{parameter.code}={quoted(value)}"
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


def bundles() -> Iterator[Ask]:
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
