"""What an operation is to this server: a row of a table, and the call that it answers.

Rules. What HL7 publishes of an operation (its parameters) is read from HL7's definition, never written down again; an operation of this server's
own has its OperationDefinition as a file in definitions/. The row adds what no definition says: on which levels and types it is answered here,
whether it changes anything, and the parameters that this server adds (the cursor of a page).

Specification: https://hl7.org/fhir/R4/operations.html, https://hl7.org/fhir/R4/operationdefinition.html
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from fhir_server.http.authorization import OperationAccess
from fhir_server.http.request import FhirRequest, Pairs
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.service import Service
from resources.definitions import load
from resources.definitions.model import OperationDefinition, OperationParameter, operation_of
from resources.errors import Issue
from resources.model import Resource, ResourceKey

Level = Literal["system", "type", "instance", "version"]

HL7: Final = "http://hl7.org/fhir/OperationDefinition/"
_OWN: Final = Path(__file__).parent / "definitions"


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call was given. `values`: parameter -> its values, of the Python type that fits (str, int, bool, dict).

    `pairs`: the same as a URL would say it, without complex values; `others`: parameters that the operation reads itself; `ignored`: what lenient
    handling left out, to be told in the answer.
    """

    values: Mapping[str, tuple[Any, ...]]
    pairs: Pairs = ()
    others: Pairs = ()
    ignored: tuple[Issue, ...] = ()

    def one(self, name: str) -> Any:
        """The value of a parameter that is given at most once; None when it is not."""
        found = self.values.get(name)
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operation: `[base]/$name`, `[base]/Type/$name`, `[base]/Type/id/$name`, `[base]/Type/id/_history/version/$name`."""

    request: FhirRequest
    level: Level
    type: str | None
    id: str | None
    version: str | None
    arguments: Arguments

    @property
    def key(self) -> ResourceKey:
        """The resource that the call is about; on the levels instance and version."""
        assert self.type is not None
        assert self.id is not None
        return ResourceKey(self.type, self.id)


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` with its `$`; `definition`: the id of its OperationDefinition; `own`: this server publishes it, not HL7.

    `types` None: every type. `affects_state`: only POST is answered. `added`: parameters beside those of the definition; `open`: parameters
    that nobody defines are the operation's own business. `setting`: the option of RestOptions that allows it; None: always allowed. `needs`: what
    an access token must allow (`http.authorization`); None: no token does.
    """

    name: str
    definition: str
    levels: tuple[Level, ...]
    types: tuple[str, ...] | None
    run: Callable[[Service, Call], Awaitable[FhirResponse]]
    affects_state: bool = False
    own: bool = False
    added: tuple[OperationParameter, ...] = ()
    open: bool = False
    setting: str | None = None
    needs: OperationAccess | None = None

    def answers(self, level: Level, kind: str | None) -> bool:
        """Whether it is answered there."""
        return level in self.levels and (kind is None or self.types is None or kind in self.types)

    def allowed(self, options: RestOptions) -> bool:
        """Whether the settings allow it."""
        return self.setting is None or bool(getattr(options, self.setting))

    def url(self, base: str) -> str:
        """The canonical URL of its definition."""
        return f"{base}/OperationDefinition/{self.definition}" if self.own else HL7 + self.definition


def text_parameter(name: str) -> OperationParameter:
    """A parameter of type string, given at most once, that this server adds to an operation."""
    return OperationParameter(name, "in", 0, 1, "string", ())


def inputs(operation: Operation) -> Mapping[str, OperationParameter]:
    """The parameters that a call may have, by name."""
    defined = definition(operation.definition, own=operation.own).parameters
    return {one.name: one for one in (*defined, *operation.added) if one.use == "in"}


@cache
def definition(name: str, *, own: bool) -> OperationDefinition:
    """The definition of this id: HL7's, or this server's own (its `url` then lacks the base)."""
    if own:
        return operation_of(own_resource(name))
    return next(one for one in load().operations if one.url == HL7 + name)


def own_resource(name: str) -> Resource:
    """The OperationDefinition of an own operation; its `url` is relative to the base."""
    resource: Resource = msgspec.json.decode((_OWN / f"{name}.json").read_bytes())
    return resource
