"""What scopes mean, by the cases of SMART App Launch 2.2 and what is refused.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_auth.scopes import LETTERS, ScopeFault, chosen, is_derivable, is_literal_subset, parse

MEANT = {
    "v2 read and search": ("patient/Observation.rs", ("patient", "Observation", "rs", ())),
    "v2 all letters of all types": ("system/*.cruds", ("system", "*", "cruds", ())),
    "v1 read is read and search": ("patient/Patient.read", ("patient", "Patient", "rs", ())),
    "v1 write is create, update, delete": ("user/Appointment.write", ("user", "Appointment", "cud", ())),
    "v1 star is everything": ("user/*.*", ("user", "*", "cruds", ())),
    "a category": (
        "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
        (
            "patient",
            "Observation",
            "rs",
            (("category", "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"),),
        ),
    ),
    "an encoded bar": ("patient/Condition.r?category=a%7Cb", ("patient", "Condition", "r", (("category", "a|b"),))),
    "two parameters": (
        "user/Observation.rs?category=a|b&status=final",
        ("user", "Observation", "rs", (("category", "a|b"), ("status", "final"))),
    ),
}

REFUSED = {
    "letters out of order": "patient/Observation.sr",
    "a letter twice": "patient/Observation.rr",
    "no letters": "patient/Observation.",
    "an unknown letter": "patient/Observation.rx",
    "delete before update": "patient/*.dus",
    "no type": "patient/.rs",
    "a lower-case type": "patient/observation.rs",
    "no dot": "patient/Observation",
    "v1 with a query": "patient/Observation.read?category=a",
    "a star with a query": "patient/*.rs?category=a",
    "an empty query": "patient/Observation.rs?",
    "an empty value": "patient/Observation.rs?category=",
    "a value of separators": "patient/Observation.rs?category=|",
    "a modifier": "patient/Observation.rs?code:below=a",
    "a chain": "patient/Observation.rs?subject.name=a",
    "a reverse chain": "patient/Patient.rs?_has:Observation:subject:code=a",
    "a filter": "patient/Observation.rs?_filter=a",
    "a page size": "patient/Observation.rs?_count=1",
    "an ambiguous plus": "patient/Observation.rs?code=a+b",
    "a hidden NUL": "patient/Observation.rs?code=a%00",
    "no UTF-8": "patient/Observation.rs?code=%FF",
    "a second query": "patient/Observation.rs?code=a?b&",
    "a quote": 'patient/Observation.rs?code="a"',
    "a line feed": "patient/Observation.rs\nopenid",
    "too long": "patient/Observation.rs " * 5000,
    "a bare context": "patient/",
}

DERIVABLE = {
    "the same": ("patient/*.rs", "patient/*.rs", True),
    "one type of all": ("patient/Observation.rs", "patient/*.rs", True),
    "fewer letters": ("patient/Observation.r", "patient/Observation.rs", True),
    "more letters": ("patient/Observation.cruds", "patient/Observation.rs", False),
    "all types of one": ("patient/*.rs", "patient/Observation.rs", False),
    "another context": ("user/Observation.rs", "patient/Observation.rs", False),
    "v2 of v1": ("patient/Observation.rs", "patient/Observation.read", True),
    "granular of whole": ("patient/Observation.rs?category=a|b", "patient/*.rs", True),
    "whole of granular": ("patient/Observation.rs", "patient/Observation.rs?category=a|b", False),
    "another category": ("patient/Observation.rs?category=c", "patient/Observation.rs?category=a|b", False),
    "a further parameter": ("patient/Observation.rs?category=a&code=b", "patient/Observation.rs?category=a", True),
    "a word asked for": ("offline_access", "openid offline_access", True),
    "a word not asked for": ("offline_access", "openid patient/*.rs", False),
    "two at once": ("patient/Observation.rs patient/Condition.rs", "patient/*.rs", False),
    "nothing": ("", "patient/*.rs", False),
}

CHOSEN = {
    "as ticked": (["openid", "patient/*.rs"], "openid patient/*.rs", "openid patient/*.rs"),
    "the wider wins": (["patient/*.rs", "patient/Observation.rs"], "patient/*.rs", "patient/*.rs"),
    "types instead of the star": (
        ["patient/Patient.rs", "patient/Condition.rs"],
        "patient/*.rs",
        "patient/Patient.rs patient/Condition.rs",
    ),
    "what was asked stays though covered": (
        ["patient/*.rs", "patient/Patient.r"],
        "patient/*.rs patient/Patient.r",
        "patient/*.rs patient/Patient.r",
    ),
    "an edited field is left out": (["user/*.cruds", "openid"], "openid patient/*.rs", "openid"),
    "nonsense is left out": (["patient/Observation.sr"], "patient/*.rs", ""),
}


@pytest.mark.parametrize("case", MEANT)
def test_scope_means(case: str) -> None:
    text, meant = MEANT[case]
    (one,) = parse(text).resource
    assert (one.context, one.type, one.letters, one.query) == meant
    assert one.text == text


@pytest.mark.parametrize("case", REFUSED)
def test_scope_is_refused(case: str) -> None:
    with pytest.raises(ScopeFault):
        parse(REFUSED[case])


@pytest.mark.parametrize("case", DERIVABLE)
def test_is_derivable(case: str) -> None:
    posted, requested, expected = DERIVABLE[case]
    assert is_derivable(posted, requested) is expected


@pytest.mark.parametrize("case", CHOSEN)
def test_chosen(case: str) -> None:
    posted, requested, expected = CHOSEN[case]
    assert chosen(posted, requested) == expected


def test_words_are_kept_and_give_no_access() -> None:
    scopes = parse("openid fhirUser launch/patient offline_access something Patient/x.rs patient/Patient.r")
    assert scopes.words == ("openid", "fhirUser", "launch/patient", "offline_access", "something", "Patient/x.rs")
    assert scopes.allows("Patient", "r")
    assert not any(scopes.allows(kind, letter) for kind in ("Observation", "*") for letter in LETTERS)


def test_refresh_compares_literally() -> None:
    assert is_literal_subset("openid patient/*.rs", "patient/*.rs openid")
    assert not is_literal_subset("patient/*.read", "patient/*.rs")


_LETTERS = ["".join(letters) for count in range(1, len(LETTERS) + 1) for letters in combinations(LETTERS, count)]
_SCOPES = st.builds(
    "{}/{}.{}".format,
    st.sampled_from(["patient", "user", "system"]),
    st.sampled_from(["*", "Patient", "Observation"]),
    st.sampled_from([*_LETTERS, "read", "write", "*"]),
)


@given(_SCOPES, _SCOPES)
def test_what_is_derived_allows_no_more(posted: str, requested: str) -> None:
    if not is_derivable(posted, requested):
        return
    (narrow,), (wide,) = parse(posted).resource, parse(requested).resource
    assert narrow.context == wide.context
    for kind in ("Patient", "Observation", "Binary"):
        for letter in LETTERS:
            assert wide.allows(kind, letter) or not narrow.allows(kind, letter)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        scopes = parse(text)
    except ScopeFault:
        return
    assert {one.text for one in scopes.resource} | set(scopes.words) == {part for part in text.split(" ") if part}
