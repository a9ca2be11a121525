"""https://hl7.org/fhir/R4/fhirpatch.html"""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.definitions import load
from resources.errors import FhirError
from resources.json_format import decode, encode
from resources.patching.fhirpath_patch import apply_patch, read_patch
from resources.patching.limits import PatchLimits

CASES = json.loads((Path(__file__).resolve().parent.parent / "cases" / "fhirpath_patch.json").read_text("utf-8"))
FORMS = {"type": "valueCode", "path": "valueString", "name": "valueString"}
DEFINITIONS = load()
LIMITS = PatchLimits()


def parameters(*operations):
    """The Parameters of operations in the cases' short form: texts and numbers bare, the value as its part."""

    def part(name, value):
        return {"name": name, **(value if name == "value" else {FORMS.get(name, "valueInteger"): value})}

    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "operation", "part": [part(name, value) for name, value in one.items()]} for one in operations
        ],
    }


def patched(resource, patch, limits=LIMITS):
    return apply_patch(resource, read_patch(patch, DEFINITIONS, limits), DEFINITIONS)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_cases_of_the_specification(case):
    resource = case["before"]
    patch = parameters(*case["patch"])
    before = copy.deepcopy((resource, patch))
    if "after" in case:
        made = patched(resource, patch)
        assert made == case["after"]
        assert [name for name in made if not name.startswith("_")] == [
            name for name in case["after"] if not name.startswith("_")
        ]
    else:
        with pytest.raises(FhirError) as caught:
            patched(resource, patch)
        (issue,) = caught.value.issues
        assert (caught.value.status, issue.expression) == (case["status"], (f"Parameters.parameter[{case['at']}]",))
        assert case["said"] in issue.diagnostics
    assert (resource, patch) == before


PATIENT = {"resourceType": "Patient", "name": [{"use": "usual", "given": ["a", "b"]}, {"extension": [{"url": "x"}]}]}
OPERATION = {"name": "operation", "part": [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.name"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        pytest.param(5, "must be a list", id="no list"),
        pytest.param([5], "are named operation", id="no object"),
        pytest.param([{**OPERATION, "name": "other"}], "are named operation", id="another name"),
        pytest.param([{"name": "operation"}], "no list of parts", id="no parts"),
        pytest.param([{"name": "operation", "part": []}], "no list of parts", id="empty parts"),
        pytest.param([{"name": "operation", "part": [5]}], "a part has no name", id="a part that is no object"),
        pytest.param([{"name": "operation", "part": [{"valueCode": "delete"}]}], "a part has no name", id="a part without name"),
        pytest.param([{"name": "operation", "valueString": "x"}], "has no 'valueString'", id="a value in place of parts"),
        pytest.param([{**OPERATION, "surprise": 1}], "has no 'surprise'", id="an unknown member"),
        pytest.param([{"name": "operation", "part": OPERATION["part"] * 2}], "'type' is given twice", id="a part twice"),
        pytest.param([{"name": "operation", "part": OPERATION["part"][1:]}], "'type' needs a value", id="no type"),
        pytest.param(
            [{"name": "operation", "part": [{"name": "type", "valueInteger": 1}]}], "'type' needs a value", id="a type that is a number"
        ),
        pytest.param(
            [{"name": "operation", "part": [OPERATION["part"][0], {"name": "path", "valueString": 5}]}],
            "'path' needs a value of type code or string",
            id="a path that is a number",
        ),
        pytest.param(
            [{"name": "operation", "part": [*OPERATION["part"], {"name": "surprise", "valueString": "x"}]}],
            "delete has no part 'surprise'",
            id="an unknown part",
        ),
    ],
)  # fmt: skip
def test_malformed_parameters_are_400(listed, said):
    with pytest.raises(FhirError) as caught:
        read_patch({"resourceType": "Parameters", "parameter": listed}, DEFINITIONS, LIMITS)
    assert caught.value.status == 400
    assert said in caught.value.issues[0].diagnostics


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param({"valueString": "x", "valueCode": "y"}, "several values", id="two values"),
        pytest.param({"valueNonsense": "x"}, "several values, or one of a type", id="an unknown type"),
        pytest.param({"value": "x"}, "several values, or one of a type", id="no type"),
        pytest.param({"valueDate": "2020", "part": [{"name": "x"}]}, "needs one of", id="a value and parts"),
        pytest.param({}, "needs one of", id="nothing"),
        pytest.param({"valueDate": "2020", "surprise": 1}, "unknown member 'surprise'", id="an unknown member"),
        pytest.param({"valueDate": {"a": 1}}, "no JSON of the type date", id="an object for a primitive"),
        pytest.param({"valueDate": ["2020"]}, "no JSON of the type date", id="an array"),
        pytest.param({"valueDate": None}, "no JSON of the type date", id="null"),
        pytest.param({"_valueDate": "x"}, "no JSON of the type date", id="a companion that is no object"),
    ],
)
def test_a_malformed_value_is_refused(value, said):
    patch = parameters({"type": "add", "path": "Patient", "name": "birthDate", "value": value})
    with pytest.raises(FhirError) as caught:
        patched({"resourceType": "Patient"}, patch)
    assert caught.value.status == 422
    assert said in caught.value.issues[0].diagnostics


@pytest.mark.parametrize("path", ["Patient.name[0].period", "Patient.name[0].given[0]", "Patient.name[0].extension[0]"])
def test_what_an_earlier_operation_put_there_may_be_nonsense(path):
    nonsense = {"valueHumanName": {"period": "x", "given": {"a": 1}, "extension": [5], "family": "x"}}
    patch = parameters(
        {"type": "add", "path": "Patient", "name": "name", "value": nonsense},
        {"type": "add", "path": path, "name": "id", "value": {"valueString": "x"}},
    )
    with pytest.raises(FhirError) as caught:
        patched({"resourceType": "Patient"}, patch)
    assert caught.value.status == 422


def test_numbers_keep_their_tokens():
    observation = decode(
        b'{"resourceType":"Observation","valueQuantity":{"value":1.00},"component":[{"valueQuantity":{"value":-0}}]}'
    )
    value = decode(b'{"valueDecimal":1e3}')
    made = patched(
        observation, parameters({"type": "replace", "path": "Observation.component.value.value", "value": value})
    )
    assert b'"value":1.00' in encode(made)
    assert b'"component":[{"valueQuantity":{"value":1e3}}]' in encode(made)


def test_too_many_operations_are_413():
    patch = parameters(*[{"type": "delete", "path": "Patient.name"}] * 11)
    with pytest.raises(FhirError) as caught:
        patched({"resourceType": "Patient"}, patch, PatchLimits(operations=10))
    assert caught.value.status == 413


def test_paths_that_pass_the_whole_resource_again_and_again_are_413():
    many = {"resourceType": "Patient", "name": [{"given": ["x"] * 20} for _ in range(100)]}
    patch = parameters(*[{"type": "delete", "path": "Patient.name.where(given.where(id='y').exists())"}] * 900)
    with pytest.raises(FhirError) as caught:
        patched(many, patch)
    assert caught.value.status == 413


WORDS = st.sampled_from(
    [
        "Patient",
        "contact",
        "name",
        "given",
        "where",
        "use",
        "extension",
        "first",
        "as",
        "ofType",
        "exists",
        "resolve",
        "%resource",
        "%x",
        "$this",
        "$x",
        "(",
        ")",
        "[",
        "]",
        ".",
        "=",
        "!=",
        "|",
        "and",
        "'x'",
        "0",
        "1",
        "true",
        "~",
    ]
)


INSIDE = st.sampled_from(
    [
        "use='x'",
        "'x'.exists()",
        "(given | use).exists()",
        "%x='y'",
        "%x.exists()",
        "$this is x",
        "resolve().exists()",
        "use",
    ]
)
STEPS = st.sampled_from(
    [".name", ".contact", ".contained", ".given", ".use", ".extension('x')", "[0]", ".first()", ".ofType(HumanName)", ".as(x)"]
) | INSIDE.map(".where({})".format)  # fmt: skip
PATHS = st.lists(WORDS, max_size=12).map("".join) | st.lists(STEPS, max_size=6).map(
    lambda steps: "".join(["Patient", *steps])
)


@given(PATHS)
def test_no_path_fails_but_by_a_fault(path):
    resource, faults = copy.deepcopy(PATIENT), []
    try:
        patched(resource, parameters({"type": "delete", "path": path}))
    except FhirError as error:
        faults.append(error)
    assert all(fault.status in (400, 422) for fault in faults)
    assert resource == PATIENT


NAMES = st.sampled_from(
    [
        "name",
        "given",
        "period",
        "start",
        "extension",
        "url",
        "value",
        "id",
        "contained",
        "text",
        "div",
        "active",
        "contact",
    ]
)
NONSENSE = (
    st.none()
    | st.booleans()
    | st.integers(-1, 1)
    | st.just("x")
    | st.just([])
    | st.just({})
    | st.just([None, 5])
    | st.just({"x": {}})
)
VALUES = st.dictionaries(
    st.sampled_from(["valueString", "_valueString", "valueHumanName", "valuePeriod", "valueBoolean", "valueDateTime", "valueId", "resource", "part"]),
    NONSENSE
    | st.fixed_dictionaries({}, optional={"given": NONSENSE, "period": NONSENSE, "extension": NONSENSE, "resourceType": st.just("Patient") | NONSENSE})
    | st.lists(st.fixed_dictionaries({"name": NAMES}, optional={"valueString": NONSENSE, "valueHumanName": NONSENSE, "part": NONSENSE}), max_size=3),
    min_size=1,
    max_size=2,
)  # fmt: skip
INDEXES = st.integers(-1, 2)
PLACES = st.lists(NAMES | NAMES.map("{}[0]".format), max_size=3).map(lambda steps: ".".join(["Patient", *steps]))
OPERATIONS = st.one_of(
    st.fixed_dictionaries({"type": st.just("add"), "path": PLACES, "name": NAMES, "value": VALUES}),
    st.fixed_dictionaries({"type": st.just("insert"), "path": PLACES, "value": VALUES, "index": INDEXES}),
    st.fixed_dictionaries({"type": st.just("replace"), "path": PLACES, "value": VALUES}),
    st.fixed_dictionaries({"type": st.just("delete"), "path": PLACES}),
    st.fixed_dictionaries({"type": st.just("move"), "path": PLACES, "source": INDEXES, "destination": INDEXES}),
)


@given(st.lists(OPERATIONS, min_size=1, max_size=6))
def test_no_operation_fails_but_by_a_fault(operations):
    """Operations are carried out one by one, each on what those before it made, valid or not."""
    resource = copy.deepcopy(PATIENT)
    faults = []
    for operation in operations:
        before = copy.deepcopy(resource)
        try:
            made = patched(resource, parameters(operation))
        except FhirError as error:
            faults.append(error)
            made = resource
        assert resource == before
        resource = made
    assert all(fault.status == 422 for fault in faults)
