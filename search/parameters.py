"""The registry of search parameters: what each code means on each resource type, base and custom.

Specification: https://hl7.org/fhir/R4/searchparameter.html
"""

from dataclasses import dataclass
from typing import Literal

ParameterType = Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter on one concrete resource type.

    `rows` are the codes under which its entries are stored: usually its own; `Observation.patient` reads the rows of `subject`
    (with `only_target` Patient), `combo-code` those of `code` and `component-code`. `targets` are the allowed reference targets.
    `components` of a composite are the parameters of its parts, whose entries carry the tuple's group.
    """

    base: str
    code: str
    type: ParameterType
    url: str
    expression: str | None
    targets: tuple[str, ...] = ()
    components: tuple["Parameter", ...] = ()
    rows: tuple[str, ...] = ()
    only_target: str | None = None
