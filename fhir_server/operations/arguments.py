"""The arguments of a call: the URL's query, and for POST a Parameters body or the one resource that the operation takes.

Rules. Every parameter is one of the operation's definition, as often as that allows, of its type; anything else is a 400 that names it. Primitive values
may stand in the URL and in the body; a date may have any precision; a related type is taken for the one defined (a valueString for a code).
Handling `lenient` leaves out unknown parameters where the answer, a Bundle, can tell so; elsewhere nothing is ignored. A parameter
without a value is not given.

Specification: https://hl7.org/fhir/R4/operations.html#executing, https://hl7.org/fhir/R4/parameters.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from fhir_server.http.request import FhirRequest
from fhir_server.interactions.body import any_resource_of
from fhir_server.interactions.service import Service
from fhir_server.operations.model import Arguments, Operation, definition, inputs
from resources.definitions.model import OperationParameter
from resources.errors import FhirError, Issue
from resources.model import Resource
from resources.validation import raise_for
from resources.validation.primitives import CHECKS
from search.values import time_range

_FAMILIES: Final = (
    ("date", "dateTime", "instant"),
    ("integer", "positiveInt", "unsignedInt"),
    ("boolean",),
    ("string", "code", "uri", "url", "canonical", "id", "markdown"),
)
_RELATED: Final[Mapping[str, tuple[str, ...]]] = {
    kind: tuple(dict.fromkeys((kind, *family, "string"))) for family in _FAMILIES for kind in family
}
"""Primitive type -> the types whose values are taken for it."""
_DATES, _INTEGERS = frozenset(_FAMILIES[0]), frozenset(_FAMILIES[1])


class _Given(NamedTuple):
    """One parameter as it was sent: `value` is text, or the JSON of a complex value; `place` in the body, "" in the URL."""

    name: str
    value: Any
    place: str


def arguments(service: Service, request: FhirRequest, operation: Operation) -> Arguments:
    """The arguments of a call of `operation`."""
    known = inputs(operation)
    given = [_Given(name, text, "") for name, text in request.query]
    if request.method == "POST" and request.payload:
        given += _posted(service, request, operation, known)
    values: dict[str, tuple[Any, ...]] = {}
    pairs: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    ignored: list[Issue] = []
    for one in given:
        if one.name not in known:
            if operation.open and isinstance(one.value, str):
                others.append((one.name, one.value))
            else:
                ignored.append(_unknown(operation, one, lenient=request.prefer.lenient))
            continue
        most = known[one.name].max
        if most is not None and len(values.get(one.name, ())) >= most:
            raise _fault(one, "invalid", f"{one.name} is given {'twice' if most == 1 else f'more than {most} times'}")
        if one.value != "":
            values[one.name] = (*values.get(one.name, ()), _typed(one, known[one.name]))
            if isinstance(one.value, str):
                pairs.append((one.name, one.value))
    for name, parameter in known.items():
        if len(values.get(name, ())) < parameter.min:
            raise FhirError(400, "required", f"the parameter {name} of {operation.name} is missing")
    return Arguments(values, tuple(pairs), tuple(others), tuple(ignored))


def _unknown(operation: Operation, one: _Given, *, lenient: bool) -> Issue:
    said = f"the parameter {one.name} is not supported on {operation.name}"
    if not (lenient and _answers_bundle(operation)):
        raise _fault(one, "not-supported", said)
    return Issue("warning", "not-supported", f"{said}; it was ignored")


def _answers_bundle(operation: Operation) -> bool:
    defined = definition(operation.definition, own=operation.own).parameters
    return [one.type for one in defined if one.use == "out"] == ["Bundle"]


def _posted(
    service: Service, request: FhirRequest, operation: Operation, known: Mapping[str, OperationParameter]
) -> Iterator[_Given]:
    """The parameters of the body."""
    body = any_resource_of(service, request, "Parameters")
    resources = [one for one in known.values() if one.type is not None and _is_resource(service, one.type)]
    if body.get("resourceType") != "Parameters":
        if len(resources) != 1:
            said = f"the body of {operation.name} is no Parameters resource"
            raise FhirError(400, "invalid", said, expression="resourceType")
        yield _Given(resources[0].name, body, resources[0].type or "")
        return
    raise_for(service.preparer.validator.validate(_shell(body)))
    for at, one in enumerate(body.get("parameter", ())):
        place = f"Parameters.parameter[{at}]"
        parameter = known.get(one["name"])
        if parameter is None:
            value = next((held for name, held in one.items() if name.startswith("value")), None)
            yield _Given(one["name"], value if isinstance(value, str) else None, place)
            continue
        yield _Given(one["name"], _value(service, one, parameter, place), place)


def _shell(body: Resource) -> Resource:
    """The Parameters with an empty resource in the place of each parameter's, which is the operation's to judge."""
    rows = body.get("parameter")
    if not isinstance(rows, list):
        return body
    empty = {"resourceType": "Parameters"}
    return {**body, "parameter": [_without(row, empty) for row in rows]}


def _without(row: Any, empty: Resource) -> Any:
    return {**row, "resource": empty} if isinstance(row, dict) and isinstance(row.get("resource"), dict) else row


def _is_resource(service: Service, kind: str) -> bool:
    return kind == "Resource" or service.definitions.is_resource(kind)


def _value(service: Service, row: Mapping[str, Any], parameter: OperationParameter, place: str) -> Any:
    """The value that the body gives: a primitive as text, anything else as it is."""
    kind = parameter.type or ""
    if _is_resource(service, kind):
        holders: tuple[str, ...] = ("resource",)
    else:
        holders = tuple(f"value{one[0].upper()}{one[1:]}" for one in _RELATED.get(kind, (kind,)))
    value = next((row[holder] for holder in holders if holder in row), None)
    if value is None:
        said = f"the parameter {parameter.name} needs a {' or '.join(holders)}"
        raise FhirError(400, "invalid", said, expression=place)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, dict) else str(value)


def _typed(one: _Given, parameter: OperationParameter) -> Any:
    """The value as the parameter's type has it."""
    kind = parameter.type or ""
    if isinstance(one.value, dict):
        return one.value
    if kind not in _RELATED:
        raise _fault(one, "invalid", f"the parameter {one.name} is a {kind}: it is sent in a Parameters body")
    if kind in _DATES:
        if time_range(one.value) is None:
            said = f"{one.name}={one.value} is no date or instant (a + must be sent as %2B in a URL)"
            raise _fault(one, "invalid", said)
        return one.value
    value: Any = one.value
    if kind == "boolean":
        value = {"true": True, "false": False}.get(one.value, one.value)
    elif kind in _INTEGERS and re.fullmatch("-?[0-9]{1,10}", one.value):
        value = int(one.value)
    fault = CHECKS[kind](value)
    if fault is not None:
        raise _fault(one, "invalid", f"{one.name}={one.value} {fault}")
    return value


def _fault(one: _Given, code: str, said: str) -> FhirError:
    return FhirError(400, code, said, expression=one.place or None)
