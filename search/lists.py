"""`_list`: the resources that a List refers to.

Rules. The value is the id of a List, several by comma; what the List may not show to the caller it lists nothing of. The functional lists
(`$current-medications`) mean nothing this server keeps.

Specification: https://hl7.org/fhir/R4/search.html#list, https://hl7.org/fhir/R4/lifecycle.html#current
"""

from typing import Final

from resources.errors import FhirError
from resources.model import is_id
from search.context import Search, find
from search.query import HasId, Node, Reverse
from search.values import split, unescape

LIST: Final = "_list"


def listed(search: Search, modifier: str, value: str) -> Node | None:
    """The node of `_list`; FhirError 400 for a functional list, a modifier, or what is no id."""
    if modifier:
        raise FhirError(400, "invalid", f"Modifier '{modifier}' does not fit search parameter '{LIST}'.")
    names = [unescape(LIST, text).removeprefix("List/") for text in split(value, ",") if text]
    for name in names:
        if name.startswith("$"):
            said = f"Search parameter '{LIST}': the functional list '{name}' is not supported."
            raise FhirError(400, "not-supported", said)
        if not is_id(name):
            raise FhirError(400, "invalid", f"Search parameter '{LIST}': '{name}' is not the id of a List.")
    if not names:
        return None
    return Reverse("List", find(search, "List", "item"), HasId(tuple(dict.fromkeys(names))))
