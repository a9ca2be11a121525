"""What reading a search depends on, and which parameters there are to read.

Rules: an unknown parameter raises `Unknown`, which lenient handling may ignore; every other fault is a FhirError 400.

Specification: https://hl7.org/fhir/R4/search.html
"""

from dataclasses import dataclass, field
from typing import Final

from search.limits import SearchLimits
from search.parameters import FULL_TEXT, Parameter, Registry
from search.values import ValueContext

_LATER: Final = frozenset({"_query", "_score"})


class Unknown(Exception):  # noqa: N818  (what lenient handling may ignore; becomes a FhirError otherwise)
    """A parameter that this server does not know, or does not support yet."""


@dataclass(slots=True)
class Steps:
    """How many kinds of references the search looks through so far, and how deep the parameter in hand is."""

    taken: int = 0
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """What reading depends on; `searched` are all types of a search over several; `steps` counts while it reads."""

    registry: Registry
    type: str
    values: ValueContext
    limits: SearchLimits
    searched: tuple[str, ...] = ()
    steps: Steps = field(default_factory=Steps)

    @property
    def types(self) -> tuple[str, ...]:
        """The types that are searched for."""
        return self.searched or (self.type,)


def find(search: Search, type_name: str, code: str) -> Parameter:
    """The parameter to search by. Raises Unknown for a code that the type does not have or that cannot be searched yet."""
    parameter = search.registry.find(type_name, code)
    if parameter is not None and parameter.searchable:
        if parameter.refused:
            raise Unknown(parameter.refused)
        return parameter
    if parameter is not None and code in FULL_TEXT:
        raise Unknown(f"Search parameter '{code}' needs the setting search.full_text, which is off.")
    if parameter is not None or code in _LATER:
        raise Unknown(f"Search parameter '{code}' of {type_name} is not supported yet.")
    raise Unknown(f"Search parameter '{code}' is not known for {type_name}.")
