"""The structural walker: one check per type, compiled from the definitions when first needed.

Rules. All faults are found at once. A type or an element that has invariants notes its values in the scope; they are asked
afterwards, on what is structurally valid. A resource inside another on its own (Bundle.entry.resource) has its own scope; a contained
one shares that of its container.

Specification: https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/resource.html
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from resources.definitions.model import Element, Property, TypeDefinition, ValueSetCodes
from resources.model import is_id
from resources.references import parse
from resources.validation import bindings
from resources.validation.faults import Fault
from resources.validation.members import Faults, Test, Walk, lists, noted, objects
from resources.validation.narrative import NO_CONTENT
from resources.validation.primitives import CHECKS, narrative_fault
from resources.validation.scope import Invariant, Scope

_CODED: Final = frozenset({"code", "string", "uri", "markdown"})
_PROFILE: Final = "http://hl7.org/fhir/StructureDefinition/"


class Definitions(Protocol):
    """What the walker asks of the definitions."""

    @property
    def types(self) -> Mapping[str, TypeDefinition]:
        """Every type by name."""
        ...

    def is_resource(self, name: str) -> bool:
        """Whether `name` is a concrete resource type."""
        ...

    def value_set(self, url: str) -> ValueSetCodes | None:
        """The codes of a required value set."""
        ...


class Invariants(Protocol):
    """Compiled invariants: `(node, resource, root)` -> broken constraints. None where a type or element has none."""

    def of_type(self, name: str) -> Invariant | None:
        """Those of every value of a type."""
        ...

    def of_element(self, owner: str, element: str) -> Invariant | None:
        """Those of one element beyond its type's."""
        ...


class Walker:
    """The checks of all types, compiled one by one."""

    def __init__(self, definitions: Definitions, invariants: Invariants | None) -> None:
        self._definitions = definitions
        self._invariants = invariants
        self._objects: dict[str, Walk] = {}

    def whole(self, value: Any, scope: Scope) -> Faults:
        """Check a resource that is contained in no other, then its local references."""
        faults = self._typed(value, scope)
        if scope.local or scope.typed:
            more = scope.unresolved()
            if more:
                faults = [*(faults or ()), *more]
        return faults

    def _object(self, name: str) -> Walk:
        walk = self._objects.get(name)
        if walk is None:
            definition = self._definitions.types[name]
            walk = self._objects[name] = objects(
                definition,
                lambda meaning: self._member(definition, meaning),
                lambda meaning: self._test(definition, meaning),
                CHECKS.__contains__,
                lambda: self._object("Element"),
                _extension if name == "Extension" else None,
                self._invariants.of_type(name) if self._invariants is not None else None,
            )
        return walk

    def _member(self, owner: TypeDefinition, meaning: Property) -> Walk:
        """The check of a member: one value, or an array of them."""
        element = meaning.element
        walk = self._value(element, meaning.type)
        if self._invariants is not None:
            walk = noted(walk, self._invariants.of_element(owner.name, element.name))
        return walk if element.max == 1 else lists(walk, primitive=meaning.type in CHECKS)

    def _test(self, owner: TypeDefinition, meaning: Property) -> Test | None:
        """The test of a member that is one primitive value without binding and invariants; None for every other member."""
        element, kind = meaning.element, meaning.type
        bound = element.binding is not None and kind in _CODED
        if element.max != 1 or kind not in CHECKS or kind == "xhtml" or bound:
            return None
        if self._invariants is not None and self._invariants.of_element(owner.name, element.name) is not None:
            return None
        return CHECKS[kind]

    def _value(self, element: Element, kind: str) -> Walk:
        if kind in CHECKS:
            return _narrative if kind == "xhtml" else self._primitive(element, kind)
        if self._definitions.types[kind].kind == "resource":
            return self._contained if element.name == "contained" else self._resource
        walk = self._object(kind)
        if kind == "Reference":
            return self._reference(element, walk)
        return self._bound(element, kind, walk)

    def _primitive(self, element: Element, kind: str) -> Walk:
        check = CHECKS[kind]

        def plain(value: Any, scope: Scope) -> Faults:  # noqa: ARG001 - the form of every check
            wrong = check(value)
            return None if wrong is None else [Fault("", "value", wrong)]

        url = element.binding if kind in _CODED else None
        codes = self._definitions.value_set(url) if url is not None else None
        has = bindings.membership(url, codes) if url is not None else None
        if url is None or has is None:
            return plain
        listed = bindings.codes_of(url, codes)

        def coded(value: Any, scope: Scope) -> Faults:  # noqa: ARG001 - the form of every check
            if value.__class__ is str and value in listed:
                return None
            wrong = check(value)
            if wrong is not None:
                return [Fault("", "value", wrong)]
            return None if has(value, None) else [Fault("", "code-invalid", f"must be a code of {url}")]

        return coded

    def _bound(self, element: Element, kind: str, walk: Walk) -> Walk:
        url = element.binding
        has = bindings.membership(url, self._definitions.value_set(url)) if url is not None else None
        if has is None or kind not in ("Coding", "CodeableConcept"):
            return walk
        outside = bindings.coding_fault if kind == "Coding" else bindings.concept_fault

        def check(value: Any, scope: Scope) -> Faults:
            faults = walk(value, scope)
            if faults is None and outside(value, has):
                return [Fault("", "code-invalid", f"must have a code of {url}")]
            return faults

        return check

    def _reference(self, element: Element, walk: Walk) -> Walk:
        """The check of a Reference: its form, and whether its target may be one of the element's types."""
        is_resource = self._definitions.is_resource
        every = not element.targets or "Resource" in element.targets
        allowed = frozenset(element.targets)
        named = f"must refer to one of: {', '.join(element.targets)}"

        def literal(value: Any, text: str, scope: Scope) -> tuple[str, str | None]:
            """The type that the text names, if any, and what is wrong."""
            found = parse(text)
            if found.form == "contained":
                scope.local.append((value, text))
                if not every:
                    scope.typed.append((value, text, allowed))
            elif found.form == "other":
                return "", "must be Type/id, a URL, a URN or #id"
            elif found.type and not is_resource(found.type):
                return "", None if found.form == "external" else "names no resource type of R4"
            elif found.type and not every and found.type not in allowed:
                return found.type, named
            return found.type, None

        def check(value: Any, scope: Scope) -> Faults:
            faults = walk(value, scope)
            if value.__class__ is not dict:
                return faults
            kind, text = "", value.get("reference")
            if text.__class__ is str and text:
                kind, _, identity = text.partition("/")
                if kind not in allowed or not is_id(identity):  # the common form passes without more
                    kind, wrong = literal(value, text, scope)
                    if wrong is not None:
                        faults = [*(faults or ()), Fault(".reference", "value", wrong)]
            if "type" in value:
                said = str(value["type"]).removeprefix(_PROFILE)
                if is_resource(said) and not every and said not in allowed:
                    faults = [*(faults or ()), Fault(".type", "value", named)]
                elif is_resource(said) and kind and kind != said:
                    faults = [*(faults or ()), Fault(".type", "value", "must be the type that the reference names")]
            return faults

        return check

    def _resource(self, value: Any, scope: Scope) -> Faults:
        """A resource inside another on its own: Bundle.entry.resource, Parameters.parameter.resource."""
        if value.__class__ is not dict:
            return [Fault("", "structure", "must be an object")]
        return self.whole(value, Scope(value, value, scope.tasks))

    def _contained(self, value: Any, scope: Scope) -> Faults:
        """A contained resource has an id of its own and contains none itself."""
        if value.__class__ is not dict:
            return [Fault("", "structure", "must be an object")]
        faults = list(self._typed(value, Scope(value, scope.root, scope.tasks, scope.local, scope.typed)) or ())
        if "contained" in value:
            faults.append(Fault(".contained", "invariant", "dom-2: a contained resource must not contain others"))
        identity, kind = value.get("id"), value.get("resourceType")
        if identity is None:
            faults.append(Fault(".id", "required", "is required in a contained resource"))
        elif identity.__class__ is str:
            if identity in scope.contained:
                faults.append(Fault(".id", "value", "is the id of another contained resource too"))
            scope.contained[identity] = kind if kind.__class__ is str else ""
        return faults or None

    def _typed(self, value: Any, scope: Scope) -> Faults:
        kind = value.get("resourceType")
        if kind is None:
            return [Fault(".resourceType", "required", "is required")]
        if kind.__class__ is not str or not self._definitions.is_resource(kind):
            return [Fault(".resourceType", "value", "must be a resource type of R4")]
        return self._object(kind)(value, scope)


def _narrative(value: Any, scope: Scope) -> Faults:  # noqa: ARG001 - the form of every check
    wrong = CHECKS["xhtml"](value)
    if wrong is not None:
        return [Fault("", "value", wrong)]
    wrong = narrative_fault(value)
    if wrong is None:
        return None
    return [Fault("", "invariant", f"{'txt-2' if wrong == NO_CONTENT else 'txt-1'}: {wrong}")]


def _extension(value: Any) -> Faults:
    """ext-1: https://hl7.org/fhir/R4/extensibility.html#Extension."""
    nested = "extension" in value
    values = [name for name in value if name.startswith(("value", "_value"))]
    return [Fault("", "invariant", "ext-1: must have either extensions or a value")] if nested == bool(values) else None
