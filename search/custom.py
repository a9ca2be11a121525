"""SearchParameter resources: what they define, and whether that can be indexed.

Rules. An active SearchParameter whose expression does not compile, or finds nothing that its type can index, is refused (422). One that
cannot be used here for another reason (its code or URL is taken, it has no expression, its type is special) is an ordinary resource and
defines nothing; `obstacle` says why. Restrictions such as `multipleOr` and `modifier` are not enforced.

Specification: https://hl7.org/fhir/R4/searchparameter.html
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from typing import Any, Final

from resources import fhirpath
from resources.definitions import Definitions
from resources.definitions.model import SearchComponent, SearchParameterDefinition
from resources.errors import FhirError, Issue
from resources.fhirpath import Computed
from resources.fhirpath_syntax import NotSimple
from search import types
from search.parameters import Parameter, Registry
from search.types.making import Making

_CODE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ABSTRACT: Final = frozenset({"Resource", "DomainResource"})
_LITERAL: Final = re.compile(r"'(?:[^'\\]|\\.)*'|/\*.*?\*/|//[^\n]*", re.DOTALL)
_CALL: Final = re.compile(r"([A-Za-z_]\w*)`?\s*\(")
_CALLS: Final = frozenset(
    re.findall(
        r"\w+",
        """all allTrue and anyTrue as children contains count distinct div empty endsWith exists extension first hasExtension hasValue
        implies in indexOf is last length lower mod not ofType or resolve single skip startsWith substring tail take toDate toDateTime
        toDecimal toInteger toString trim upper where xor""",
    )
)
"""What an expression may call (operators may stand before a parenthesis): work in proportion to the resource. Regular
expressions, projections, recursion and the whole resource within a criterion let one parameter stop the server."""
_MOST_LETTERS: Final = 4000
_MOST_DEPTH: Final = 8
_SAMPLE: Final = "Patient"
"""Stands for every type where a parameter is on an abstract one."""


def definition_of(resource: Mapping[str, Any]) -> SearchParameterDefinition:
    """What a valid SearchParameter defines."""
    return SearchParameterDefinition(
        url=resource["url"],
        code=resource["code"],
        type=resource["type"],
        bases=tuple(resource["base"]),
        expression=resource.get("expression"),
        targets=tuple(resource.get("target", ())),
        components=tuple(
            SearchComponent(one["definition"].partition("|")[0], one["expression"])
            for one in resource.get("component", ())
        ),
    )


def is_active(resource: Mapping[str, Any]) -> bool:
    """Whether the SearchParameter is meant to be searched by."""
    return resource.get("status") == "active"


def obstacle(
    definition: SearchParameterDefinition, registry: Registry, others: Iterable[SearchParameterDefinition]
) -> str:
    """Why the definition is not used, "" when it can be. `registry`: the published parameters; `others`: custom ones in use."""
    if definition.expression is None:
        return "it has no expression"
    if definition.type == "special":
        return "its type is special"
    if _CODE.fullmatch(definition.code) is None or definition.code.startswith("_"):
        return f"its code '{definition.code}' can be no parameter's name here"
    if registry.is_published(definition.url):
        return f"{definition.url} is a published search parameter"
    for base in concrete(definition):
        known = registry.find(base, definition.code)
        if known is not None:
            return f"'{definition.code}' of {base} is {known.url}"
    for other in others:
        if other.url == definition.url:
            return f"another SearchParameter has the URL {other.url}"
        if other.code == definition.code and _overlap(other, definition):
            return f"'{definition.code}' is {other.url}"
    return ""


def _overlap(one: SearchParameterDefinition, other: SearchParameterDefinition) -> bool:
    bases, others = set(one.bases), set(other.bases)
    return bool(bases & others or bases & _ABSTRACT or others & _ABSTRACT)


def require_indexable(resource: Mapping[str, Any], registry: Registry, definitions: Definitions) -> None:
    """FhirError 422 when an active SearchParameter cannot be indexed, with every reason."""
    if not is_active(resource):
        return
    definition = definition_of(resource)
    if definition.expression is None or definition.type == "special":
        return
    faults = list(_faults(definition, registry, definitions))
    if faults:
        issues = [Issue("error", "business-rule", said, (f"SearchParameter.{where}",)) for where, said in faults]
        raise FhirError.many(422, issues)


def concrete(definition: SearchParameterDefinition) -> Iterator[str]:
    """The types to look at, a sample for an abstract one."""
    for base in definition.bases:
        yield _SAMPLE if base in _ABSTRACT else base


def _faults(
    definition: SearchParameterDefinition, registry: Registry, definitions: Definitions
) -> Iterator[tuple[str, str]]:
    """(element, reason)."""
    trial = registry.fork()
    trial.replace((definition,), {}, 1)
    missing = [one.definition for one in definition.components if trial.by_url(one.definition) is None]
    if definition.type == "composite" and (missing or not definition.components):
        yield (
            "component",
            f"the search parameter {missing[0]} is not known here" if missing else "a composite has components",
        )
        return
    for at, one in enumerate(definition.components):
        costly = _costly(one.expression)
        if costly:
            yield f"component[{at}].expression", costly
            return
    reasons = {}
    for base in dict.fromkeys(concrete(definition)):
        parameter = trial.custom(base, definition)
        reasons[base] = _fault(parameter, definitions)
    if all(reasons.values()):
        for base, reason in reasons.items():
            yield "expression", f"on {base} {reason}"


def _fault(parameter: Parameter, definitions: Definitions) -> str:
    """Why nothing can be indexed of a parameter on its type; "" when something can."""
    if parameter.expression is None:
        return "the expression says nothing"
    costly = _costly(parameter.expression)
    if costly:
        return costly
    try:
        found = fhirpath.places(parameter.expression, parameter.base, definitions)
    except NotSimple:
        return _general_fault(parameter)
    if isinstance(found, Computed):
        return "" if parameter.type == "token" else f"the expression is a truth value, which is no {parameter.type}"
    if not found:
        return f"the expression '{parameter.expression}' finds nothing"
    if parameter.type == "composite":
        return ""
    making = Making(definitions.value_set, (), UTC)
    kinds = sorted({place.type for place in found})
    if any(_makes(parameter, kind, making) for kind in kinds):
        return ""
    return f"the expression finds {', '.join(kinds)}, which a {parameter.type} parameter cannot index"


def _costly(expression: str) -> str:
    """Why evaluating the expression might not end soon, "" when it does."""
    if len(expression) > _MOST_LETTERS:
        return f"the expression has more than {_MOST_LETTERS} letters"
    bare = _LITERAL.sub(" ", expression)
    depth = deepest = 0
    for letter in bare:
        depth += (letter in "([") - (letter in ")]")
        deepest = max(deepest, depth)
    if deepest > _MOST_DEPTH:
        return "the expression is nested too deeply"
    if "%" in bare:
        return "the expression has a variable, which is not supported"
    others = sorted({name for name in _CALL.findall(bare) if name not in _CALLS})
    return f"the expression calls {', '.join(others)[:200]}, which is not supported" if others else ""


def _makes(parameter: Parameter, kind: str, making: Making) -> bool:
    return kind == "Extension" or types.maker(parameter, parameter.code, kind, None, making) is not None


def _general_fault(parameter: Parameter) -> str:
    try:
        fhirpath.general(parameter.expression or "")
    except FhirError as error:
        return error.issues[0].diagnostics
    return "a composite's expression is not simple enough" if parameter.type == "composite" else ""
