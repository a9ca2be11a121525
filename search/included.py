"""`_include` and `_revinclude`: which references to follow from what, read from `Source:parameter[:Target]`.

Rules. `*` stands for every reference of the type, alone for every reference of every type. Without `:iterate` an include starts from what is
searched for; with it, from all that is on the page. A type or parameter that does not fit is a 400.

Specification: https://hl7.org/fhir/R4/search.html#include, #revinclude
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from resources.errors import FhirError
from search.chains import is_canonical, require_reference, require_target
from search.context import Search, Unknown, find
from search.parameters import Parameter
from search.query import Include

_EVERY = "*"


def read(search: Search, name: str, value: str) -> tuple[Include, ...]:
    """The includes that a parameter `name` (`_revinclude:iterate`) with this value asks for."""
    found = _read(search, name, value)
    return (found,) if found.parameter is not None else (found, *_canonicals(search, found))


def _canonicals(search: Search, every: Include) -> Iterator[Include]:
    """Beside every literal reference those parameters whose values are canonical URLs of what is wanted."""
    here = search.types
    sources = (every.source,) if every.source else search.registry.types() if every.reverse or every.iterate else here
    named = here if every.reverse and not every.iterate else search.registry.types()
    able = [kind for kind in named if search.registry.find(kind, "url") is not None and every.target in (None, kind)]
    for source in sources:
        for parameter in search.registry.searchable(source):
            if parameter.type != "reference" or not any(kind in parameter.targets for kind in able):
                continue
            if is_canonical(search, parameter):
                yield replace(every, source=source, parameter=parameter, canonical=True)


def _read(search: Search, name: str, value: str) -> Include:
    kind, _, modifier = name.partition(":")
    reverse, iterate = kind == "_revinclude", modifier in ("iterate", "recurse")
    if value == _EVERY:
        return Include("", None, None, reverse, iterate)
    source, _, rest = value.partition(":")
    code, colon, target = rest.partition(":")
    if not source or not code or (colon and not target):
        raise FhirError(400, "invalid", f"Parameter '{name}': '{value}' is not of the form Type:parameter[:Target].")
    if not search.registry.is_type(source):
        raise FhirError(400, "invalid", f"Parameter '{name}': '{source}' is not a resource type.")
    if code == _EVERY:
        return _every(search, name, value, Include(source, None, target or None, reverse, iterate))
    parameter = _known(search, source, code, name)
    if parameter.type != "reference":
        raise FhirError(400, "invalid", f"Parameter '{name}': '{code}' is of type {parameter.type}, not reference.")
    if target:
        require_target(search, parameter, target, f"{name}={value}")
    found = Include(source, parameter, target or None, reverse, iterate, is_canonical(search, parameter))
    return found if iterate else _from_here(search, name, value, found)


def _from_here(search: Search, name: str, value: str, found: Include) -> Include:
    """The include, which starts from what is searched for."""
    if not found.reverse:
        return _starts(search, name, value, found)
    assert found.parameter is not None
    able = [kind for kind in search.types if found.parameter.may_target(kind)]
    if not able:
        require_reference(found.parameter, search.types[0], f"{name}={value}")
    if found.target is not None and found.target not in search.types:
        raise FhirError(400, "invalid", f"Parameter '{name}': '{value}' includes what refers to {found.target} only.")
    return found


def _starts(search: Search, name: str, value: str, found: Include) -> Include:
    if found.source not in search.types:
        said = f"Parameter '{name}': '{value}' starts from {found.source}, but the search is of {_listed(search.types)}; write {name}:iterate."
        raise FhirError(400, "invalid", said)
    return found


def _every(search: Search, name: str, value: str, found: Include) -> Include:
    if found.target is not None and not search.registry.is_type(found.target):
        raise FhirError(400, "invalid", f"Parameter '{name}': '{found.target}' is not a resource type.")
    if found.iterate or found.reverse:
        return found
    return _starts(search, name, value, found)


def _listed(types: Sequence[str]) -> str:
    return ", ".join(types) if len(types) <= 3 else f"{len(types)} types"  # noqa: PLR2004


def _known(search: Search, type_name: str, code: str, name: str) -> Parameter:
    """The parameter that a value names; lenient handling does not excuse it."""
    try:
        return find(search, type_name, code)
    except Unknown as unknown:
        raise FhirError(400, "not-supported", f"Parameter '{name}': {unknown}") from None
