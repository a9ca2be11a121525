"""What an OpenAPI document says of operations: each row of the operation table on each of its levels, its parameters from its definition.

Rules: GET takes the parameters that are primitive, so an operation that must have another is asked for by POST alone, as is one that changes
something. POST takes Parameters, or the one resource that the operation is about.

Specification: https://hl7.org/fhir/R4/operations.html#executing
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.openapi.interactions import TYPE, About, Answer
from fhir_server.openapi.parameters import argument
from fhir_server.operations.model import Level, Operation, definition, inputs
from resources.definitions import Definitions
from resources.definitions.model import OperationParameter

_LEVELS: Final[Mapping[str, Level]] = {
    "/$operation": "system",
    "/{type}/$operation": "type",
    "/{type}/{id}/$operation": "instance",
    "/{type}/{id}/_history/{version}/$operation": "version",
}
_FAULTS: Final = (403, 404, 409, 410, 412, 422)
_LATER: Final = frozenset({"$reindex"})
"""Operations whose POST may answer 202: the work goes on."""
_PARAMETERS: Final = "Parameters"


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations that there are. `base`: the FHIR base URL."""

    rows: Sequence[Operation]
    definitions: Definitions
    base: str

    def calls(self, method: str, shape: str, kind: str | None) -> Iterator[tuple[str, About]]:
        """(path, what is said) of what a row of the route table dispatches: on `kind`, or on the system and on every type for None."""
        level = _LEVELS[shape]
        for row in self.rows:
            if level not in row.levels or (method != "POST" and not self._by_get(row)):
                continue
            here = (
                level == "system" or row.types is None
                if kind is None
                else level != "system" and row.answers(level, kind)
            )
            if here:
                path = shape.replace("$operation", row.name).replace(TYPE, kind or TYPE)
                yield path, self._about(row, method, level)

    def _by_get(self, row: Operation) -> bool:
        return not row.affects_state and all(self._is_primitive(one) for one in inputs(row).values() if one.min)

    def _is_primitive(self, one: OperationParameter) -> bool:
        known = self.definitions.types.get(one.type or "")
        return known is not None and known.kind == "primitive-type"

    def _about(self, row: Operation, method: str, level: Level) -> About:
        posted = method == "POST"
        answer = Answer("The answer", (self._answered(row),))
        answers = {200: answer}
        if posted and row.name in _LATER:
            answers[202] = Answer("The work goes on", answer.body, ("Content-Location",))
        return About(
            f"{row.name[1:]}-{level}{'-post' if posted else ''}",
            f"{row.name} on the level {level}",
            row.url(self.base),
            answers,
            _FAULTS,
            own=tuple(argument(one) for one in inputs(row).values() if self._is_primitive(one)),
            sends=self._sent(row) if posted else (),
            takes="member" if row.open else None,
        )

    def _answered(self, row: Operation) -> str:
        """The resource type of the answer: a single resource is answered bare."""
        out = [one for one in definition(row.definition, own=row.own).parameters if one.use == "out"]
        (kind,) = [one.type for one in out] if len(out) == 1 else (None,)
        return kind if kind is not None and self._is_resource(kind) else _PARAMETERS

    def _sent(self, row: Operation) -> tuple[str, ...]:
        kinds = [one.type for one in inputs(row).values() if one.type is not None and self._is_resource(one.type)]
        return (_PARAMETERS, kinds[0]) if len(kinds) == 1 else (_PARAMETERS,)

    def _is_resource(self, kind: str) -> bool:
        return kind == "Resource" or self.definitions.is_resource(kind)
