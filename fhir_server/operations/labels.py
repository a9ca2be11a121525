"""$meta, $meta-add, $meta-delete: profiles, tags and security labels.

Rules. They are sets: a tag or label is its system and code, a profile its URL; `add` keeps what is there, `delete` does not mind what is not there. What else
the given Meta holds (versionId, lastUpdated, source) is no label and does not count. A change makes a new version like any update, so the history stays
true; changing nothing makes none. A superseded version is never changed: on a version only the current one can be named (409). If-Match is
kept; a race that is lost without it is run again. $meta of a type or of the server reads the index of labels (see storage/sqlite/labels.py).

Specification: https://hl7.org/fhir/R4/resource-operation-meta.html, https://hl7.org/fhir/R4/resource-operation-meta-add.html
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fhir_server.http.response import FhirResponse, validators
from fhir_server.interactions.commit import commit
from fhir_server.interactions.conditions import current_version, precondition_failed, retried
from fhir_server.interactions.parts import require_shown_whole
from fhir_server.interactions.prepare import checked, put, require_whole
from fhir_server.interactions.service import Service
from fhir_server.interactions.written import location
from fhir_server.operations.answers import parameters
from fhir_server.operations.model import Call
from fhir_server.storage.port import Conflict, Stored, UnitOfWork
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import Resource

Labels = list[Any]
Merge = Callable[[Labels, Labels], Labels]

_LABELS: Final = ("profile", "security", "tag")
MOST: Final = 1000
"""So many resources are read at most to tell all labels of a type or of the server."""


async def meta(service: Service, call: Call) -> FhirResponse:
    """`GET` or `POST [base]/$meta`, `[base]/Type/$meta`, `[base]/Type/id/$meta`, `[base]/Type/id/_history/version/$meta`."""
    if call.level in ("instance", "version"):
        stored = await _stored(service, call)
        return _told(decode(stored.body)["meta"], validators(stored))
    found = await service.store.labelled(call.type, MOST + 1, call.request.narrowing)
    if len(found) > MOST:
        raise FhirError(403, "too-costly", f"more than {MOST} profiles, tags and security labels are in use")
    union: dict[str, Labels] = {}
    for stored in found:
        given = decode(stored.body)["meta"]
        union = {name: _added(union.get(name, []), _labels(given, name)) for name in _LABELS}
    return _told({name: labels for name, labels in union.items() if labels})


async def meta_add(service: Service, call: Call) -> FhirResponse:
    """`POST [base]/Type/id/$meta-add`: the resulting meta."""
    return await _changed(service, call, _added)


async def meta_delete(service: Service, call: Call) -> FhirResponse:
    """`POST [base]/Type/id/$meta-delete`: the resulting meta."""
    return await _changed(service, call, _deleted)


async def _changed(service: Service, call: Call, merge: Merge) -> FhirResponse:
    if_match = call.request.headers.get("if-match")
    given: Mapping[str, Any] = call.arguments.one("meta")

    async def attempt() -> FhirResponse:
        await current_version(service, call.key, if_match, call.request.narrowing)
        stored = await _stored(service, call)
        resource = _merged(decode(stored.body), given, merge)
        require_shown_whole(stored, call.request.narrowing)
        require_whole(resource)
        checked(service.preparer, resource)
        write = put(service.preparer, resource, call.key, "PUT", expected=stored.version)
        (done,) = await commit(service, UnitOfWork((write,)), call.request.narrowing)
        return _told(decode(done.body)["meta"], (("Location", location(service.base, done)), *validators(done)))

    if if_match is None:
        return await retried(attempt)
    try:
        return await attempt()
    except Conflict:
        raise precondition_failed(call.key) from None


async def _stored(service: Service, call: Call) -> Stored:
    """The version that the call is about; for a change the current one. FhirError 404, 409, 410."""
    stored = await service.store.read(call.key, call.request.narrowing)
    if stored is None:
        raise FhirError(404, "not-found", f"{call.key} is not known")
    if call.version is not None and call.version != str(stored.version):
        if call.request.segments[-1] != "$meta":
            said = (
                f"version {call.version} is not the current one of {call.key}; what the history holds is never changed"
            )
            raise FhirError(409, "conflict", said)
        number = int(call.version) if re.fullmatch("[0-9]{1,15}", call.version) else 0
        stored = await service.store.read_version(call.key, number, call.request.narrowing)
        if stored is None:
            raise FhirError(404, "not-found", f"{call.key} has no such version")
    if stored.deleted:
        raise FhirError(410, "deleted", f"{call.key} was deleted", headers=dict(validators(stored)))
    return stored


def _merged(resource: Resource, given: Mapping[str, Any], merge: Merge) -> Resource:
    """The resource with other labels; sets that become empty go."""
    present = resource["meta"]
    merged = {name: merge(_labels(present, name), _labels(given, name)) for name in _LABELS if name in given}
    labels = {name: kept for name, kept in merged.items() if kept != _labels(present, name)}
    # the companion holds extensions of profiles by position, which no longer fit
    lost = {f"_{name}" for name in labels}
    changed = {**present, **labels}
    return {**resource, "meta": {name: value for name, value in changed.items() if value != [] and name not in lost}}


def _labels(meta: Mapping[str, Any], name: str) -> Labels:
    """The labels of a kind, without the gaps where the companion alone has something."""
    return [label for label in meta.get(name, []) if label is not None]


def _added(present: Labels, given: Labels) -> Labels:
    known = set(_identities(present))
    added = []
    for label, identity in zip(given, _identities(given), strict=True):
        if identity not in known:
            known.add(identity)
            added.append(label)
    return [*present, *added]


def _deleted(present: Labels, given: Labels) -> Labels:
    gone = set(_identities(given))
    return [label for label, identity in zip(present, _identities(present), strict=True) if identity not in gone]


def _identities(labels: Labels) -> Iterable[tuple[str | None, str | None]]:
    """What tells labels apart: system and code, or the URL."""
    return [(None, one) if isinstance(one, str) else (one.get("system"), one.get("code")) for one in labels]


def _told(found: Mapping[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> FhirResponse:
    return parameters([("return", "Meta", found)] if found else [], headers=headers)
