"""What access control costs: the same requests with authorization off, as an administrator, as a patient, and as a doctor of many patients.

Rules.
1. Two servers run at once, on two copies of one folder, and are asked in turn, so that what else the machine does falls on both. The audit trail is
   on where authorization is; rates are not limited.
2. Cost is the processor time of all the server's processes for a request, that which keeps the audit trail included (where the system does not tell it: the inverse of the rate). Shown is by how much it
   exceeds that of the request with authorization off, medians over rounds, beside the budget.
3. Everybody asks for what they may see: the record of one patient, who is also the patient that asks.
"""

import shutil
import statistics
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from fhir_server.auth import tokens_of
from fhir_server.benchmark.client import CannotMeasure, Request, measure
from fhir_server.benchmark.phases import Loaded, load
from fhir_server.benchmark.server import Server, busy, serve_arguments, started
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.auth import SqliteAuthStore
from resources.model import Resource
from smart_auth import keys
from smart_auth.model import Client, Grant, LaunchContext, Principal, User

PHASE: Final = "access"
BUDGETS: Final = {"admin": 0.15, "patient": 0.25, "doctor": 0.60}
_OFF: Final = "off"
_PATIENTS: Final = 500
_DOCTOR: Final = "Practitioner/bench-doctor"
_READS: Final = 40
_CODES: Final = 10
_SECONDS: Final = 3600
_BASE: Final = "http://bench.example.org"
_SETTINGS: Final = {
    "FHIR_PUBLIC_URL": _BASE,
    **{f"FHIR_RATES__{name}": "0" for name in ("USER", "CLIENT", "AUTH", "FAILURES")},
}


class Asker(NamedTuple):
    """Who asks which server; `token` "" with authorization off."""

    server: Server
    token: str


def measure_access(folder: Path, loaded: Loaded, *, workers: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Shape -> who -> `rate` (requests a second), `cost` (microseconds), `more` (share beyond off), `budget`. `folder`/data is that of an ended server."""
    patients = [key for key, _ in loaded.by_type["Patient"]]
    plain, guarded = folder / "data", folder / "guarded"
    with started(serve_arguments(plain, workers), folder / "server.log") as server:
        _assign(server, patients[:_PATIENTS])
    shutil.copytree(plain, guarded)
    with (
        started(serve_arguments(plain, workers), folder / "server.log") as off,
        started(serve_arguments(guarded, workers, "required"), folder / "guarded.log", _SETTINGS) as on,
    ):
        askers = {
            _OFF: Asker(off, ""),
            **{who: Asker(on, token) for who, token in _tokens(guarded, patients[0]).items()},
        }
        time.sleep(1.1)  # users and grants count within a second
        shapes = _shapes(loaded.by_type["Patient"][0], askers["patient"])
        return {shape: _compared(requests, askers, seconds, rounds) for shape, requests in shapes.items()}


def _assign(server: Server, patients: Sequence[str]) -> None:
    """Make the patients those of the doctor."""
    rows: list[dict[str, Any]] = [
        {
            "resource": {"resourceType": "Practitioner", "id": _DOCTOR.partition("/")[2]},
            "request": {"method": "PUT", "url": _DOCTOR},
        }
    ]
    for key in patients:
        team = {
            "resourceType": "CareTeam",
            "status": "active",
            "subject": {"reference": key},
            "participant": [{"member": {"reference": _DOCTOR}}],
        }
        rows.append({"resource": team, "request": {"method": "POST", "url": "CareTeam"}})
    done = load(server.url, [msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": rows})])
    if done.failures:
        raise CannotMeasure(f"the doctor's patients were not stored: {done.failures[0]}")


def _tokens(folder: Path, patient: str) -> dict[str, str]:
    store = SqliteAuthStore.open(folder)
    try:
        settings = Settings(data_dir=folder, public_url=_BASE, auth="required")
        keys.ensure(store, int(time.time()))
        tokens = tokens_of(store, settings, settings.base)
        store.put_client(Client("bench", "Benchmark", "public"))
        name = patient.partition("/")[2]
        people = {
            "admin": (User("bench-admin", ("admin",)), "user/*.cruds openid fhirUser", ""),
            "patient": (
                User("bench-patient", ("patient",), fhir_user=patient),
                "patient/*.rs launch/patient openid fhirUser",
                name,
            ),
            "doctor": (User("bench-doctor", ("doctor",), fhir_user=_DOCTOR), "user/*.cruds openid fhirUser", ""),
        }
        made = {}
        for who, (user, scope, context) in people.items():
            store.put_user(user)
            store.add_grant(
                Grant(user.name, "bench", scope, int(time.time()), user.name, LaunchContext(patient=context))
            )
            principal = Principal(user.name, "bench", scope, user=user.name, patient=context, grant=user.name)
            made[who] = tokens.access(principal, _SECONDS)
        return made
    finally:
        store.close()


def _shapes(patient: tuple[str, Resource], asker: Asker) -> dict[str, list[Request]]:
    """The requests by name, all about what the patient may see."""
    key, resource = patient
    wanted = urllib.request.Request(  # noqa: S310  (our own server)
        f"{asker.server.url}/fhir/Observation?patient={key}&_count=100",
        headers={"Authorization": f"Bearer {asker.token}"},
    )
    with urllib.request.urlopen(wanted) as answer:  # noqa: S310
        own = [entry["resource"] for entry in msgspec.json.decode(answer.read()).get("entry", ())]
    if not own:
        raise CannotMeasure(f"{key} has no Observation that they may see")
    codes = sorted({one["code"]["coding"][0]["code"] for one in own})[:_CODES]
    family = quote(resource["name"][0]["family"][:3])
    asked = {
        "read": [f"Observation/{one['id']}" for one in own[:_READS]],
        "search: Observation?patient&code&_sort=-date": [
            f"Observation?patient={key}&code={quote(code, safe='')}&_sort=-date&_count=20" for code in codes
        ],
        "search: Patient?name": [f"Patient?name={family}&_count=20"],
    }
    return {shape: [Request("GET", f"/fhir/{path}") for path in paths] for shape, paths in asked.items()}


def _compared(requests: list[Request], askers: dict[str, Asker], seconds: float, rounds: int) -> dict[str, Any]:
    taken: dict[str, list[tuple[float, float]]] = {who: [] for who in askers}
    for turn in range(rounds + 1):  # the first warms up
        for who, (server, token) in askers.items():
            before = busy(server.pid)
            figures = measure(server.url, requests, 16, seconds if turn else 1.0, token)
            if figures.errors:
                raise CannotMeasure(f"{figures.errors} of {figures.requests} requests failed as {who}")
            spent = None if before is None else (busy(server.pid) or 0.0) - before
            if turn:
                taken[who].append((figures.rate, spent / figures.requests if spent else 1 / figures.rate))
    found: dict[str, Any] = {
        who: {
            "rate": statistics.median(rate for rate, _ in rows),
            "cost": round(statistics.median(cost for _, cost in rows) * 1e6, 1),
        }
        for who, rows in taken.items()
    }
    for who, budget in BUDGETS.items():
        found[who] |= {"more": round(found[who]["cost"] / found[_OFF]["cost"] - 1, 3), "budget": budget}
    return found
