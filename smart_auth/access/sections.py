"""Labels on parts of a resource: what parts bear them, the resource without some of these, and what may be found of a resource that has such parts.

Rules.
1. A part (element, contained resource, extension) bears the labels of its own inline label extension. It is kept from whom a whole resource that bears
   the label would be kept from: labels of sections and of resources mean the same.
2. With a part goes whatever may tell it again: the narrative of the resource that it stands in. An unlabelled part without content goes too.
3. Index rows do not tell from which part they are. So what is labelled in parts is found by nobody, from whom some label would keep it, by a search that
   looks at more than `PLAIN`, which no labelled part may say anything of.

Specification: https://hl7.org/fhir/uv/security-label-ds4p/STU1.1/inline_security_labels.html, https://hl7.org/fhir/R4/security-labels.html
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

from resources.model import Resource
from search.query import All, And, Match, Node, Not, Nothing, Or
from smart_auth.access.facts import Rules
from smart_auth.access.reaches import condition

EXTENSION: Final = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
MARK: Final = "PROCESSINLINELABEL"
"""What meta.security of a resource with labelled parts bears, a code of `MARK_SYSTEM`."""
MARK_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
PLAIN: Final = frozenset(
    {
        "_id",
        "_lastUpdated",
        "_profile",
        "_security",
        "_source",
        "_tag",
        "category",
        "date",
        "patient",
        "status",
        "subject",
    }
)
"""Search parameters that labelled parts say nothing of: a write with such a part is refused."""
UNREADABLE: Final = ("", "")
"""The label of a part whose label has no code."""
_TRACE: Final = b"extension-inline-sec-label"

Label = tuple[str, str]
"""System and code."""


def has_sections(body: bytes) -> bool:
    """Whether a stored body has labelled parts: asked of every row, so it looks for the name of the extension alone."""
    return _TRACE in body


def is_marked(resource: Resource) -> bool:
    """Whether the resource says that it has labelled parts."""
    return any(one.get("code") == MARK for one in (resource.get("meta") or {}).get("security", ()))


def labels(value: Any) -> frozenset[Label]:
    """The labels of all parts of a resource, or of a part of it."""
    if isinstance(value, dict):
        found = frozenset(_own(value))
        return found.union(*(labels(one) for one in value.values()))
    return frozenset[Label]().union(*map(labels, value)) if isinstance(value, list) else frozenset()


def without(resource: Resource, hidden: Collection[Label]) -> Resource:
    """The resource without the parts that bear one of the labels: the same object when there are none. Of one labelled itself, id and meta."""
    if any(label in hidden for label in _own(resource)):
        return {name: resource[name] for name in ("resourceType", "id", "meta") if name in resource}
    pruned: Resource = _element(resource, hidden)
    return pruned


def marked(rules: Rules, kind: str, now: int) -> Node:
    """What of the type has labelled parts; everything, where that cannot be told."""
    found = condition(rules, kind, (("_security", f"{MARK_SYSTEM}|{MARK}"),), now)
    return All() if isinstance(found, Nothing) else found


def cautious(node: Node, marked: Node, *, negated: bool = False) -> Node:
    """The node, for what has labelled parts as if these bore whatever label keeps it away: `marked` is the node of what has such parts.

    The same object when no label keeps anything away.
    """
    match node:
        case And(parts) | Or(parts):
            changed = tuple([cautious(part, marked, negated=negated) for part in parts])
            same = all(new is part for new, part in zip(changed, parts, strict=True))
            return node if same else type(node)(changed)
        case Not(part):
            inner = cautious(part, marked, negated=not negated)
            return node if inner is part else Not(inner)
        case Match(parameter) if negated and parameter.code == "_security":
            return Or((node, marked))
    return node


def _own(element: dict[str, Any]) -> Iterator[Label]:
    """The labels of an element."""
    extensions = element.get("extension")
    for one in extensions if isinstance(extensions, list) else ():
        if isinstance(one, dict) and one.get("url") == EXTENSION:
            concept = one.get("valueCodeableConcept") or {}
            codings = [one["valueCoding"]] if "valueCoding" in one else concept.get("coding", ())
            found = [(coding.get("system", ""), coding["code"]) for coding in codings if coding.get("code")]
            yield from found or [UNREADABLE]


def _hides(value: Any, hidden: Collection[Label]) -> bool:
    return isinstance(value, dict) and any(label in hidden for label in _own(value))


def _element(element: dict[str, Any], hidden: Collection[Label]) -> dict[str, Any]:
    """The element without its hidden parts; the same object when there are none."""
    kept: dict[str, Any] = {}
    for name in element:
        twin = name.removeprefix("_")
        if name == twin or twin not in element:
            kept |= _member(element, twin, hidden)
    if all(kept.get(name) is value for name, value in element.items()):
        return element
    if "resourceType" in element:
        kept.pop("text", None)
    return kept


def _member(element: dict[str, Any], name: str, hidden: Collection[Label]) -> dict[str, Any]:
    """A member with what belongs to it (`birthDate`, `_birthDate`), as far as it is not hidden."""
    given = {one: element[one] for one in (name, f"_{name}") if one in element}
    if any(_hides(value, hidden) for value in given.values()):
        return {}
    lists = [value for value in given.values() if isinstance(value, list)]
    if not lists:
        pruned = {one: _element(value, hidden) if isinstance(value, dict) else value for one, value in given.items()}
        return {one: value for one, value in pruned.items() if value != {}}
    gone = {at for value in lists for at, item in enumerate(value) if _hides(item, hidden)}
    found: dict[str, Any] = {}
    for one, value in given.items():
        inner = [_element(item, hidden) if isinstance(item, dict) else item for item in value]
        kept = [item for at, item in enumerate(inner) if at not in gone]
        # beside other values of the same places nothing is null, elsewhere it is left out
        kept = [item or None for item in kept] if one != name else [item for item in kept if item != {}]
        if len(kept) == len(value) and all(new is old for new, old in zip(kept, value, strict=True)):
            found[one] = value
        elif any(item is not None for item in kept):
            found[one] = kept
    return found
