"""Required bindings: whether a coded value is of the value set that its element demands.

Rules. Value sets without an enumeration are checked by form: mime types, languages (BCP 47), UCUM units, LOINC answers. A Coding or
CodeableConcept needs a coding of the set, system and code, unless it has extensions and no coding at all.

Specification: https://hl7.org/fhir/R4/terminologies.html#required
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from resources.definitions.model import ValueSetCodes

Member = Callable[[str, str | None], bool]
"""`(code, system or None for a code element)` -> whether the value set has it."""

_MIME = re.compile(
    r"[A-Za-z0-9!#$&^_.+\-]+(?:/[A-Za-z0-9!#$&^_.+\-]+)?(?:\s*;\s*[A-Za-z0-9!#$&^_.+\-]+=(?:[^\s;\"]+|\"[^\"]*\"))*"
)
_LANGUAGE = re.compile(r"(?:[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*|[xXiI](?:-[A-Za-z0-9]{1,8})+)")
_UCUM = re.compile(r"[!-~]+")
_LOINC_ANSWER = re.compile(r"LA[0-9]+-[0-9]")

BY_FORM: Final[Mapping[str, tuple[str | None, re.Pattern[str]]]] = {
    "http://hl7.org/fhir/ValueSet/mimetypes": (None, _MIME),
    "http://hl7.org/fhir/ValueSet/ucum-units": ("http://unitsofmeasure.org", _UCUM),
    "http://hl7.org/fhir/ValueSet/all-languages": (None, _LANGUAGE),
    "http://loinc.org/vs/LL379-9": ("http://loinc.org", _LOINC_ANSWER),
}
"""Value sets that no list holds -> the code system, if any is to be named, and the form of their codes."""


def codes_of(url: str, codes: ValueSetCodes | None) -> frozenset[str]:
    """All codes of the set, whatever their system; empty when only the form is known."""
    return frozenset().union(*codes.systems.values()) if codes is not None and url not in BY_FORM else frozenset()


def membership(url: str, codes: ValueSetCodes | None) -> Member | None:
    """The test of one required value set; None when nothing is known about it."""
    if url in BY_FORM:
        named, form = BY_FORM[url]
        return lambda code, system: (system is None or named in (None, system)) and form.fullmatch(code) is not None
    if codes is None:
        return None
    systems = codes.systems
    every = codes_of(url, codes)

    def has(code: str, system: str | None) -> bool:
        return code in (every if system is None else systems.get(system, ()))

    return has


def coding_fault(coding: Any, has: Member) -> bool:
    """Whether a structurally valid Coding is outside the value set."""
    code, system = coding.get("code"), coding.get("system")
    return not (isinstance(code, str) and isinstance(system, str) and has(code, system))


def concept_fault(concept: Any, has: Member) -> bool:
    """Whether no coding of a structurally valid CodeableConcept is in the value set."""
    codings = concept.get("coding")
    if not codings:
        return "extension" not in concept
    return all(coding_fault(coding, has) for coding in codings if coding.__class__ is dict)
