"""The built-in roles as a table, and how edited ones are read."""

import pytest

from resources.definitions import load
from smart_auth.roles import (
    BREAKING_GLASS,
    DEFINITIONS,
    DIRECTORY,
    MONEY,
    PERSONS,
    REACHES,
    ROLES,
    SCHEDULING,
    STOCK,
    TREATMENT,
    RoleFault,
    roles_with,
)

ACTS = {
    "register a patient": ("Patient", "c"),
    "view a profile": ("Patient", "r"),
    "book": ("Appointment", "c"),
    "diagnose": ("Condition", "c"),
    "prescribe": ("MedicationRequest", "c"),
    "note vital signs": ("Observation", "c"),
    "give": ("MedicationAdministration", "c"),
    "dispense": ("MedicationDispense", "c"),
    "see results": ("Observation", "r"),
    "claim": ("Claim", "c"),
    "answer a claim": ("ClaimResponse", "c"),
    "read an audit record": ("AuditEvent", "r"),
    "delete a patient": ("Patient", "d"),
    "delete a result": ("Observation", "d"),
}
MAY = {
    "super-admin": {"register a patient": "any", "view a profile": "any", "book": "any", "see results": "any", "read an audit record": "any"},
    "admin": {"register a patient": "organization", "view a profile": "organization", "book": "organization", "see results": "organization", "read an audit record": "organization", "delete a patient": "organization"},
    "doctor": {"view a profile": "assigned", "diagnose": "assigned", "prescribe": "assigned", "note vital signs": "assigned", "see results": "assigned"},
    "nurse": {"view a profile": "assigned ward", "note vital signs": "assigned ward", "give": "assigned ward", "see results": "assigned ward"},
    "receptionist": {"register a patient": "organization", "view a profile": "organization", "book": "organization"},
    "pharmacist": {"view a profile": "organization", "dispense": "organization"},
    "lab-technician": {"view a profile": "ordered", "note vital signs": "ordered", "see results": "ordered"},
    "billing": {"view a profile": "organization", "claim": "organization"},
    "insurer": {"answer a claim": "payer"},
    "integration": dict.fromkeys(ACTS, "organization"),
    "patient": {"view a profile": "self", "book": "self", "note vital signs": "self", "see results": "self", "read an audit record": "self"},
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_role_may(role):
    found = {}
    for act, (kind, letter) in ACTS.items():
        reaches = sorted({one.reach for one in ROLES[role] if one.allows(kind, letter)})
        if reaches:
            found[act] = " ".join(reaches)
    assert found == MAY[role]


def test_every_type_is_one_of_the_specification():
    types = set(load().resource_types)
    for group in (DIRECTORY, PERSONS, SCHEDULING, MONEY, STOCK, TREATMENT, DEFINITIONS):
        assert group <= types
    for permissions in ROLES.values():
        for one in permissions:
            assert one.types - {"*"} <= types
            assert one.reach in REACHES
    assert set(ROLES) >= BREAKING_GLASS


def test_only_administrators_and_backends_delete():
    assert {role for role, permissions in ROLES.items() if any("d" in one.letters for one in permissions)} == {
        "admin",
        "integration",
    }


def test_a_role_is_edited():
    roles = roles_with(
        {"clerk": [{"types": ["Task"], "letters": "rs", "reach": "organization", "query": "status=ready"}]}
    )
    (permission,) = roles["clerk"]
    assert permission.allows("Task", "r")
    assert not permission.allows("Task", "c")
    assert permission.query == (("status", "ready"),)
    assert roles["doctor"] == ROLES["doctor"]
    assert roles_with({"doctor": []})["doctor"] == ()


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        {"types": [], "letters": "r", "reach": "any"},
        {"types": "Task", "letters": "r", "reach": "any"},
        {"types": ["Task"], "letters": "x", "reach": "any"},
        {"types": ["Task"], "letters": "", "reach": "any"},
        {"types": ["Task"], "letters": "r", "reach": "everywhere"},
        {"types": ["Task"], "letters": "r"},
        {"types": ["Task"], "letters": "r", "reach": "any", "query": 1},
        {"types": ["Task"], "letters": "r", "reach": "any", "extra": 1},
    ],
)
def test_a_role_that_is_not_understood_is_refused(row):
    with pytest.raises(RoleFault):
        roles_with({"clerk": [row]})
