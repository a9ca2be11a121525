"""Composites: several values that must hold together, in one tuple: `code$value`.

Specification: https://hl7.org/fhir/R4/search.html#combining
"""

from search import values
from search.parameters import Parameter


def parts(parameter: Parameter, value: str) -> list[str]:
    """The text of each component, escapes kept; as many as the parameter has components."""
    found = values.split(value, "$")
    if len(found) != len(parameter.components) or "" in found:
        wanted = "$".join(component.type for component in parameter.components)
        raise values.invalid(parameter.code, value, f"is not a tuple {wanted}")
    return found
