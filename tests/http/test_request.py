"""Query strings and forms: decoded as the standard library decodes them, refused beyond the limit."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.http.request import query_pairs
from resources.errors import FhirError


@given(st.text("ab=&+% 20AéC3", max_size=30))
def test_pairs_are_those_of_the_standard_library(text):
    try:
        expected = tuple(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except UnicodeError:
        with pytest.raises(FhirError) as caught:
            query_pairs(text, 100)
        assert (caught.value.status, caught.value.issues[0].code) == (400, "invalid")
    else:
        assert query_pairs(text, 100) == expected


def test_more_pairs_than_the_limit_are_refused():
    assert len(query_pairs(b"a=1&b=2", 2)) == 2
    with pytest.raises(FhirError) as caught:
        query_pairs(b"a=1&b=2&c=3", 2)
    assert caught.value.issues[0].code == "too-costly"
