"""Labels on parts: which there are, and what is left without some of them.

Specification: https://hl7.org/fhir/uv/security-label-ds4p/STU1.1/inline_security_labels.html
"""

import json

import pytest

from resources.json_format import encode
from smart_auth.access.sections import EXTENSION, UNREADABLE, has_sections, labels, without

R = {"system": "urn:s", "code": "R"}
V = {"system": "urn:s", "code": "V"}


def label(*codings, **more):
    return {"extension": [{"url": EXTENSION, "valueCoding": coding} for coding in codings], **more}


HIDE_R = {
    "no label": ({"id": "1", "active": True}, {"id": "1", "active": True}),
    "another label": ({"contact": [label(V, gender="male")]}, {"contact": [label(V, gender="male")]}),
    "an element": ({"maritalStatus": label(R, text="x"), "id": "1"}, {"id": "1"}),
    "one of several labels": ({"maritalStatus": label(V, R, text="x")}, {}),
    "one of a list": ({"telecom": [label(R, value="1"), {"value": "2"}]}, {"telecom": [{"value": "2"}]}),
    "all of a list": ({"telecom": [label(R, value="1")]}, {}),
    "a primitive": ({"birthDate": "1980", "_birthDate": label(R), "gender": "male"}, {"gender": "male"}),
    "a primitive without value": ({"_birthDate": label(R), "gender": "male"}, {"gender": "male"}),
    "one of a list of primitives": (
        {"name": [{"given": ["a", "b"], "_given": [None, label(R)]}]},
        {"name": [{"given": ["a"]}]},
    ),
    "the first of a list of primitives": (
        {"name": [{"given": ["a", "b"], "_given": [label(R), {"id": "i"}]}]},
        {"name": [{"given": ["b"], "_given": [{"id": "i"}]}]},
    ),
    "an extension of a primitive in a list": (
        {"name": [{"given": ["a", "b"], "_given": [{"extension": [label(R, url="u")]}, {"id": "i"}]}]},
        {"name": [{"given": ["a", "b"], "_given": [None, {"id": "i"}]}]},
    ),
    "deep inside": (
        {"contact": [{"name": label(R, text="x"), "gender": "male"}]},
        {"contact": [{"gender": "male"}]},
    ),
    "all of an element": ({"contact": [{"name": label(R, text="x")}], "id": "1"}, {"id": "1"}),
    "an extension": ({"extension": [label(R, url="u", valueCode="c"), {"url": "v"}]}, {"extension": [{"url": "v"}]}),
    "a contained resource": ({"contained": [label(R, resourceType="Basic", id="b")], "id": "1"}, {"id": "1"}),
    "the narrative goes too": ({"text": {"div": "x"}, "maritalStatus": label(R)}, {}),
    "the narrative of what is contained too": (
        {"contained": [{"resourceType": "Basic", "text": {"div": "x"}, "subject": label(R, reference="P/1")}]},
        {"contained": [{"resourceType": "Basic"}]},
    ),
    "the narrative stays with other labels": (
        {"text": {"div": "x"}, "maritalStatus": label(V)},
        {"text": {"div": "x"}, "maritalStatus": label(V)},
    ),
    "the resource itself": ({"id": "1", "active": True, **label(R)}, {"id": "1"}),
}


@pytest.mark.parametrize("case", HIDE_R)
def test_parts_are_left_out(case):
    given, wanted = HIDE_R[case]
    given = {"resourceType": "Patient", **given}
    before = json.dumps(given)
    left = without(given, {("urn:s", "R")})
    assert left == {"resourceType": "Patient", **wanted}
    assert json.dumps(given) == before
    assert (left is given) == (given == left)
    assert has_sections(encode(given)) == bool(labels(given))


@pytest.mark.parametrize(
    ("extension", "wanted"),
    [
        ({"valueCoding": R}, {("urn:s", "R")}),
        ({"valueCoding": {"code": "R"}}, {("", "R")}),
        ({"valueCodeableConcept": {"coding": [R, V]}}, {("urn:s", "R"), ("urn:s", "V")}),
        ({"valueCoding": {"display": "secret"}}, {UNREADABLE}),
        ({"valueString": "R"}, {UNREADABLE}),
        ({}, {UNREADABLE}),
    ],
)
def test_labels_are_read(extension, wanted):
    assert labels({"a": [{"extension": [{"url": EXTENSION, **extension}]}]}) == wanted
