"""The phases of a measurement: what is sent, at how many connections, and against which limit it is held.

Specification of the shapes: the searches that clinical applications make most; https://hl7.org/fhir/R4/search.html
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from fhir_server.benchmark.client import NUMBER, CannotMeasure, Request
from resources.model import Resource

LOINC = "http://loinc.org"
POSTERS = 4
SAMPLE = 2000
SERIAL = "urn:bench:serial"


@dataclass(slots=True)
class Loaded:
    """What was loaded: resources by type as (`Type/id` on the server, resource as sent)."""

    by_type: dict[str, list[tuple[str, Resource]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All resources."""
        return sum(map(len, self.by_type.values()))


@dataclass(frozen=True, slots=True)
class Phase:
    """A measured phase: its requests from what was loaded, connections, and the limit whose ratio is shown."""

    requests: Callable[[Loaded], list[Request]]
    connections: int
    limit: str


def load(url: str, bodies: Sequence[bytes]) -> Loaded:
    """POST all Bundles (JSON texts), four at once; the first ones that others may refer to alone and in order."""
    done, waiting, results = Loaded(), SimpleQueue[bytes](), list[tuple[bytes, int, bytes]]()
    for body in bodies:
        waiting.put(body)
    target = urlsplit(url)
    assert target.hostname is not None

    def post() -> None:
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=300)
        while True:
            try:
                body = waiting.get_nowait()
            except Empty:
                return connection.close()
            connection.request("POST", "/fhir", body, {"Content-Type": "application/fhir+json"})
            answer = connection.getresponse()
            results.append((body, answer.status, answer.read()))

    began = time.perf_counter()
    threads = [threading.Thread(target=post) for _ in range(POSTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.seconds = time.perf_counter() - began
    for body, status, answer in results:
        _note(done, body, status, answer)
    return done


def _note(done: Loaded, body: bytes, status: int, answer: bytes) -> None:
    if status >= 300:  # noqa: PLR2004  (RFC 9110: everything below is success)
        done.failures.append(f"{status} {answer[:300].decode(errors='replace')}")
        return
    sent, got = msgspec.json.decode(body)["entry"], msgspec.json.decode(answer)["entry"]
    for entry, outcome in zip(sent, got, strict=True):
        kind, name = outcome["response"]["location"].split("/_history/")[0].split("/")[-2:]
        done.by_type.setdefault(kind, []).append((f"{kind}/{name}", entry["resource"]))


def _get(path: str) -> Request:
    return Request("GET", f"/fhir/{path}")


def _reads(loaded: Loaded) -> list[Request]:
    keys = [key for rows in loaded.by_type.values() for key, _ in rows]
    return [_get(key) for key in keys[:: max(1, len(keys) // SAMPLE)]]


def _patients(loaded: Loaded) -> list[tuple[str, Resource]]:
    return loaded.by_type["Patient"]


def _a_patient(loaded: Loaded) -> str:
    return _patients(loaded)[0][0]


def _observation(loaded: Loaded) -> Resource:
    coding = [{"system": LOINC, "code": "29463-7", "display": "Body Weight"}]
    quantity = {"value": 71.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": coding, "text": f"Body Weight {NUMBER}"},
        "subject": {"reference": _a_patient(loaded)},
        "effectiveDateTime": "2026-01-01T10:00:00+01:00",
        "valueQuantity": quantity,
    }


def _creates(loaded: Loaded) -> list[Request]:
    return [Request("POST", "/fhir/Observation", msgspec.json.encode(_observation(loaded)).decode())]


def _updates(loaded: Loaded) -> list[Request]:
    ids = [f"bench-{number}" for number in range(500)]
    return [
        Request("PUT", f"/fhir/Observation/{name}", msgspec.json.encode({**_observation(loaded), "id": name}).decode())
        for name in ids
    ]


def _new_patients(_loaded: Loaded) -> list[Request]:
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": SERIAL, "value": NUMBER}],
        "name": [{"family": "Bench", "given": [f"N{NUMBER}"]}],
        "birthDate": "1980-01-02",
    }
    criteria = f"identifier={quote(SERIAL, safe='')}%7C{NUMBER}"
    return [Request("POST", "/fhir/Patient", msgspec.json.encode(patient).decode(), criteria)]


def _known_patients(loaded: Loaded) -> list[Request]:
    body = msgspec.json.encode({"resourceType": "Patient", "active": True}).decode()
    found = [request.path.partition("?")[2] for request in _identifiers(loaded)]
    return [
        Request("POST", "/fhir/Patient", body, criteria) for criteria, count in Counter(found).items() if count == 1
    ]


def _mixed(loaded: Loaded) -> list[Request]:
    """Four reads and a create, again and again."""
    (create,), reads = _creates(loaded), _reads(loaded)
    groups = [[*reads[at : at + 4], create] for at in range(0, len(reads), 4)]
    return [request for group in groups for request in group]


def _per_patient(pattern: str) -> Callable[[Loaded], list[Request]]:
    return lambda loaded: [_get(pattern.format(patient=key)) for key, _ in _patients(loaded)]


def _codes(loaded: Loaded, count: int) -> list[str]:
    counted = Counter(
        coding["code"]
        for _, resource in loaded.by_type["Observation"]
        for coding in resource["code"].get("coding", ())
        if coding.get("system") == LOINC
    )
    return [quote(f"{LOINC}|{code}", safe="") for code, _ in counted.most_common(count)]


def _observations_by_code(loaded: Loaded) -> list[Request]:
    return [
        _get(f"Observation?patient={key}&code={code}&_sort=-date&_count=20")
        for key, _ in _patients(loaded)
        for code in _codes(loaded, 3)
    ]


def _names(loaded: Loaded) -> list[Request]:
    names = {resource["name"][0]["family"][:3] for _, resource in _patients(loaded)}
    return [_get(f"Patient?name={quote(name)}&_count=20") for name in sorted(names)]


def _identifiers(loaded: Loaded) -> list[Request]:
    found: list[dict[str, Any]] = [
        i for _, r in _patients(loaded) for i in r["identifier"] if "system" in i and "value" in i
    ]
    return [_get(f"Patient?identifier={quote(i['system'] + '|' + i['value'], safe='')}") for i in found]


def _births(_loaded: Loaded) -> list[Request]:
    return [
        _get(f"Patient?birthdate=ge{year}-01-01&gender={gender}&_count=20")
        for year in range(1930, 2016, 2)
        for gender in ("female", "male")
    ]


def _having(loaded: Loaded) -> list[Request]:
    return [_get(f"Patient?_has:Observation:patient:code={code}&_count=20") for code in _codes(loaded, 20)]


def _quantities(loaded: Loaded) -> list[Request]:
    return [
        _get(f"Observation?code={code}&value-quantity=gt{value}&_count=20")
        for code in _codes(loaded, 3)
        for value in range(10, 190, 10)
    ]


PHASES: dict[str, Phase] = {
    "read": Phase(_reads, 32, "http"),
    "create": Phase(_creates, 16, "sync"),
    "update": Phase(_updates, 16, "sync"),
    "conditional create: new": Phase(_new_patients, 16, "sync"),
    "conditional create: existing": Phase(_known_patients, 16, "http"),
    "mixed: four reads and a create": Phase(_mixed, 32, "http"),
    "search: Observation?patient&code&_sort=-date": Phase(_observations_by_code, 16, "http"),
    "search: Patient?name": Phase(_names, 16, "http"),
    "search: Patient?identifier": Phase(_identifiers, 16, "http"),
    "search: Patient?birthdate=ge&gender": Phase(_births, 16, "http"),
    "search: Encounter?patient&_include": Phase(
        _per_patient("Encounter?patient={patient}&_include=Encounter:practitioner&_count=20"), 16, "http"
    ),
    "search: Condition?patient&clinical-status": Phase(
        _per_patient("Condition?patient={patient}&clinical-status=active&_count=20"), 16, "http"
    ),
    "search: Observation?patient&category&date=ge": Phase(
        _per_patient("Observation?patient={patient}&category=laboratory&date=ge2015-01-01&_count=20"), 16, "http"
    ),
    "search: Patient?_has:Observation:patient:code": Phase(_having, 16, "http"),
    "search: MedicationRequest?patient&status&_include": Phase(
        _per_patient(
            "MedicationRequest?patient={patient}&status=active"
            "&_include=MedicationRequest:medication&_include=MedicationRequest:requester&_count=20"
        ),
        16,
        "http",
    ),
    "search: Observation?code&value-quantity=gt": Phase(_quantities, 16, "http"),
    "search: Claim?patient": Phase(_per_patient("Claim?patient={patient}&_count=20"), 16, "http"),
}


_APART = ("load", "access")
"""Phases of their own kind, measured in another place."""


def chosen(wanted: str | None) -> dict[str, Phase]:
    """The phases whose name begins with one of the words of `wanted` ("read,search"); all for None."""
    if wanted is None:
        return PHASES
    words = tuple(word.strip() for word in wanted.split(",") if word.strip() not in _APART)
    unknown = [word for word in words if not any(name.startswith(word) for name in PHASES)]
    if unknown:
        raise CannotMeasure(
            f"there is no phase {', '.join(unknown)}; there are {', '.join(_APART)}, {', '.join(PHASES)}"
        )
    return {name: phase for name, phase in PHASES.items() if name.startswith(words)} if words else {}
