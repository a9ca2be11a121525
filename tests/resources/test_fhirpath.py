"""FHIRPath: all R4 search expressions are closures, and closures agree with fhirpathpy."""

import subprocess
import sys
from decimal import Decimal

import pytest

from resources import fhirpath
from resources.definitions import load
from resources.errors import FhirError
from resources.fhirpath import Computed, Filter, Index, Typed
from resources.fhirpath_syntax import NotSimple

DEFINITIONS = load()
SAMPLES = {"boolean": True, "integer": 7, "positiveInt": 7, "unsignedInt": 7, "decimal": Decimal("1.50")}

# Parameters of R4's examples whose expression is about another type than their base.
EMPTY = {("Patient", "example-extension")}


def expressions():
    """(type, expression) of every search parameter on its base types; three stand for an abstract one."""
    for parameter in DEFINITIONS.search_parameters:
        if parameter.expression is not None:
            for base in parameter.bases:
                types = ("Patient", "Bundle", "Claim") if DEFINITIONS.types[base].abstract else (base,)
                yield from ((kind, parameter.expression) for kind in types)


def sample(place, kind):
    """A resource of type `kind` with one value at the place."""
    definition = DEFINITIONS.types.get(place.type)
    value = SAMPLES.get(place.type, "2024-01-01") if definition.kind == "primitive-type" else {"id": "here"}
    if place.type == "Resource":
        value = {"resourceType": "Basic", "id": "here"}
    for step in reversed(place.steps):
        value = [value] if isinstance(step, Index) else {step: value}
    return {"resourceType": kind, **value} if place.steps else {"resourceType": kind}


def test_every_expression_of_r4_is_a_closure():
    counted, empty = {"closures": 0, "fhirpathpy": 0}, set()
    for parameter in DEFINITIONS.search_parameters:
        if parameter.expression is None:
            continue
        try:
            for base in parameter.bases:
                kind = "Patient" if DEFINITIONS.types[base].abstract else base
                found = fhirpath.places(parameter.expression, kind, DEFINITIONS)
                if not isinstance(found, Computed) and not found:
                    empty.add((base, parameter.url.rpartition("/")[2]))
            counted["closures"] += 1
        except NotSimple:
            counted["fhirpathpy"] += 1
    assert counted == {"closures": 1384, "fhirpathpy": 0}
    assert empty == EMPTY


def test_closures_agree_with_fhirpathpy_wherever_a_value_may_stand():
    seen, compared = set(), 0
    for kind, expression in expressions():
        found = fhirpath.places(expression, kind, DEFINITIONS)
        if (kind, expression) in seen or isinstance(found, Computed) or "extension(" in expression:
            continue
        seen.add((kind, expression))
        compiled, general = fhirpath.compile(expression, kind, DEFINITIONS), fhirpath.general(expression)
        for place in found:
            if not place.steps or any(isinstance(step, Filter) for step in place.steps):
                continue
            resource = sample(place, kind)
            ours, theirs = compiled(resource), general(resource)
            assert [typed.value for typed in ours] == [typed.value for typed in theirs], (kind, expression)
            assert len(ours) >= 1, (kind, expression)
            compared += 1
    assert compared > 1500


PATIENT = {
    "resourceType": "Patient",
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}, {"value": "3"}],
    "name": [{"given": ["A", None, "B"]}, {"family": "C"}],
    "deceasedDateTime": "2020",
    "extension": [{"url": "http://x.org/a", "valueString": "x"}, {"url": "http://x.org/b", "valueString": "y"}],
}
OBSERVATION = {
    "resourceType": "Observation",
    "contained": [{"resourceType": "Patient", "id": "p"}, {"resourceType": "Group", "id": "g"}],
    "valueQuantity": {"value": 1},
    "component": [{"valueQuantity": {"value": 2}}, {"valueString": "s"}],
}


@pytest.mark.parametrize(
    ("kind", "expression", "resource", "wanted"),
    [
        ("Patient", "Patient.telecom.where(system='phone').value", PATIENT, [("string", "1")]),
        ("Patient", "Patient.name.given", PATIENT, [("string", "A"), ("string", "B")]),
        ("Patient", "Patient.name[1].family", PATIENT, [("string", "C")]),
        ("Patient", "Patient.name[5].family", PATIENT, []),
        ("Patient", "Patient.deceased", PATIENT, [("dateTime", "2020")]),
        ("Patient", "(Patient.deceased as dateTime)", PATIENT, [("dateTime", "2020")]),
        ("Patient", "Patient.deceased.ofType(boolean)", PATIENT, []),
        ("Patient", "Patient.deceased.exists() and Patient.deceased != false", PATIENT, [("boolean", True)]),
        (
            "Patient",
            "Patient.deceased.exists() and Patient.deceased != false",
            {"resourceType": "Patient"},
            [("boolean", False)],
        ),
        (
            "Patient",
            "Patient.deceased.exists() and Patient.deceased != false",
            {"resourceType": "Patient", "deceasedBoolean": False},
            [("boolean", False)],
        ),
        ("Patient", "Patient.extension('http://x.org/b').value", PATIENT, [("string", "y")]),
        ("Patient", "Practitioner.name | Patient.name.family", PATIENT, [("string", "C")]),
        ("Observation", "Observation.value as Quantity", OBSERVATION, [("Quantity", {"value": 1})]),
        ("Observation", "Observation.value.as(quantity)", OBSERVATION, [("Quantity", {"value": 1})]),
        ("Observation", "(Observation.component.value as string)", OBSERVATION, [("string", "s")]),
        ("Observation.component", "value.as(Quantity)", {"valueQuantity": {"value": 2}}, [("Quantity", {"value": 2})]),
    ],
)
def test_an_expression_gives_typed_values(kind, expression, resource, wanted):
    assert fhirpath.compile(expression, kind, DEFINITIONS)(resource) == [Typed(*one) for one in wanted]


@pytest.mark.parametrize(
    ("reference", "kept"),
    [
        ({"reference": "Patient/1"}, True),
        ({"reference": "Patient/1/_history/2"}, True),
        ({"reference": "http://a.org/fhir/Patient/1"}, True),
        ({"reference": "Group/1"}, False),
        ({"reference": "#p"}, True),
        ({"reference": "#g"}, False),
        ({"reference": "#absent"}, False),
        ({"reference": "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7"}, False),
        ({"reference": "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", "type": "Patient"}, True),
        ({"identifier": {"value": "1"}, "type": "Patient"}, True),
        ({"identifier": {"value": "1"}}, False),
    ],
)
def test_where_resolve_is_reads_the_type_that_a_reference_names(reference, kept):
    find = fhirpath.compile("Observation.subject.where(resolve() is Patient)", "Observation", DEFINITIONS)
    assert bool(find({**OBSERVATION, "subject": reference})) is kept


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("Patient.name.given.first()", [("string", "A")]),
        ("Patient.name.family.startsWith('C')", [("boolean", True)]),
        ("Patient.telecom.count()", [("integer", 3)]),
        ("Patient.name.given[2]", [("string", "B")]),
        ("Patient.name.where(given='C').family", []),
        ("Patient.telecom.where(system = 'fax' or system = 'email').value", [("string", "2")]),
        ("Resource.name.family | Patient.name.given.last()", [("string", "C"), ("string", "B")]),
    ],
)
def test_fhirpathpy_evaluates_what_closures_do_not_cover(expression, wanted):
    with pytest.raises(NotSimple):
        fhirpath.places(expression, "Patient", DEFINITIONS)
    assert fhirpath.compile(expression, "Patient", DEFINITIONS)(PATIENT) == [Typed(*one) for one in wanted]


@pytest.mark.parametrize("expression", ["Patient.", "Patient.name(", "a b c", "", "Patient.name.where("])
def test_what_is_no_fhirpath_is_a_400(expression):
    with pytest.raises(FhirError) as caught:
        fhirpath.compile(expression, "Patient", DEFINITIONS)
    assert caught.value.status == 400


def test_fhirpathpy_is_not_imported_for_closures():
    program = (
        "import sys\nfrom resources import fhirpath\nfrom resources.definitions import load\n"
        "fhirpath.compile('Patient.name', 'Patient', load())\nassert 'fhirpathpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
