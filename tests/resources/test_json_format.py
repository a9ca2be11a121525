import copy
import pickle
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import FhirError
from resources.json_format import Number, decode, encode, template
from resources.model import ResourceKey
from tests.strategies import RESOURCES, resources

EVERY_TYPE = settings(max_examples=max(4, settings.default.max_examples // 12))  # 146 types: few rounds each
KEY = ResourceKey("Patient", "p1")
UPDATED = 1_700_000_000_123_456

ABUSE = {
    "an empty body": b"",
    "a body of white space": b" \n\t ",
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "bytes that are not UTF-8 in a string": b'{"a":"\xff"}',
    "an overlong UTF-8 sequence": b'{"a":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "a lone high surrogate": b'{"a":"\\ud800"}',
    "a lone low surrogate": b'{"a":"\\udc00"}',
    "a high surrogate before text": b'{"a":"\\ud800x"}',
    "two high surrogates": b'{"a":"\\ud800\\ud800"}',
    "U+0000 in a value": b'{"a":"x\\u0000"}',
    "U+0000 in a name": b'{"a\\u0000":1}',
    "U+0000 after an escaped backslash": b'{"a":"\\\\\\u0000"}',
    "a raw control character": b'{"a":"\x01"}',
    "a raw NUL": b'{"a":"\x00"}',
    "text after the value": b'{"a":1} x',
    "a second value": b'{"a":1}{"a":1}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "minus Infinity": b'{"a":-Infinity}',
    "a leading zero": b'{"a":01}',
    "a leading plus": b'{"a":+1}',
    "a number that ends in its point": b'{"a":1.}',
    "a number that begins with its point": b'{"a":.5}',
    "an exponent beyond all bounds": b'{"a":1e9999999999999999999999}',
    "an integer of 5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "a name given twice": b'{"a":1,"a":2}',
    "a name given twice with one value": b'{"a":1,"a":1}',
    "a name given twice deep inside": b'{"a":[{"b":{"c":1,"c":1}}]}',
    "a name given twice beside -0": b'{"a":-0,"a":1}',
    "a name given twice, once escaped": b'{"a":1,"\\u0061":2}',
    "a name given twice, hidden by a quoted quote": b'{"a\\u0022:":1,"b":1,"b":2}',
    "a name given twice, hidden by an escaped colon": b'{"a":"\\"\\u003A","b":1,"b":2}',
    "a name given twice among white space": b'{ "a" : 1 , "a" : 2 }',
    "single quotes": b"{'a':1}",
    "a trailing comma": b'{"a":1,}',
    "a comment": b'{"a":1 /* x */}',
    "an unfinished object": b'{"a":',
    "an unfinished string": b'{"a":"x',
    "arrays without end": b"[" * 100_000,
    "objects without end": b'{"a":' * 100_000,
    "arrays nested 900 deep": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    "objects nested 101 deep": b'{"a":' * 101 + b"1" + b"}" * 101,
    "nesting hidden by brackets in strings": b'{"s":"]]}}[[","a":' + b"[" * 150 + b"]" * 150 + b"}",
}


@pytest.mark.parametrize("body", ABUSE.values(), ids=ABUSE.keys())
def test_abuse_is_answered_400(body):
    with pytest.raises(FhirError) as caught:
        decode(body)
    assert caught.value.status == 400
    assert caught.value.issues[0].code == "structure"


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true", b"-0", b"1.5"])
def test_a_value_that_is_no_object_is_invalid(body):
    with pytest.raises(FhirError, match="object") as caught:
        decode(body)
    assert (caught.value.status, caught.value.issues[0].code) == (400, "invalid")


def test_a_diagnostics_quotes_no_content():
    with pytest.raises(FhirError) as caught:
        decode(b'{"secret":"hidden","secret":"hidden"}')
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "token",
    [
        "1.00",
        "1e3",
        "-0",
        "-0.0",
        "0.00000001",
        "1.50E+2",
        "1e400",
        "12345678901234567890",
        "-1",
        "0",
        "1E-7",
        "1e99999999999",
    ],
)
def test_a_number_comes_back_as_written(token):
    body = f'{{"a":{token},"b":[{token}]}}'.encode()
    assert encode(decode(body)) == body
    assert encode(copy.deepcopy(decode(body))) == body
    assert encode(pickle.loads(pickle.dumps(decode(body)))) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"\\u00e9"}',
        b'{"a":"x\\/y"}',
        b'{"a\\"b":"c\\":d"}',
        b'{"a":"\\ud83e\\ude7a"}',
        b'{"a":"\\\\u0000"}',
        b'{ "a" : "\\b\\f" }',
        b'{"s":"[[[[{{{{","a":[[[[1]]]]}',
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'{"a":"\\u0022:","b":"\\u0022"}',
        b'{"id":"a-0a1b-0","b":"2020-01-0 -0"}',
        b'{"a":"\\u00e9\\"\\u003a"}',
    ],
)
def test_unusual_spelling_is_read(body):
    assert decode(body) == msgspec.json.decode(body)


@pytest.mark.parametrize("kind", RESOURCES)
@EVERY_TYPE
@given(data=st.data())
def test_a_resource_survives_byte_for_byte(kind, data):
    written = encode(data.draw(resources(kind)))
    assert encode(decode(written)) == written
    stored = template(decode(written), ResourceKey(kind, "new")).body(7, UPDATED)
    back = decode(stored)
    assert back["resourceType"] == kind
    assert back["id"] == "new"
    assert back["meta"]["versionId"] == "7"
    assert back["meta"]["lastUpdated"] == "2023-11-14T22:13:20.123456Z"
    given_ = decode(written)
    kept = [name for name in given_ if name not in ("id", "meta", "resourceType")]
    assert [name for name in back if name not in ("id", "meta", "resourceType")] == kept
    assert all(encode({"x": back[name]}) == encode({"x": given_[name]}) for name in kept)


def test_any_json_object_is_read_as_it_was_written():
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
    leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | text
    values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(text, inner))

    @given(st.dictionaries(text, values))
    def check(value):
        assert decode(msgspec.json.encode(value)) == value

    check()


TEMPLATES = {
    "id and meta are put after resourceType": (
        {"resourceType": "Patient", "active": True},
        '{"resourceType":"Patient","id":"p1","meta":{@},"active":true}',
    ),
    "id stays in its place": (
        {"resourceType": "Patient", "active": True, "id": "old"},
        '{"resourceType":"Patient","active":true,"id":"p1","meta":{@}}',
    ),
    "meta follows id": (
        {"resourceType": "Patient", "id": "old", "active": True},
        '{"resourceType":"Patient","id":"p1","meta":{@},"active":true}',
    ),
    "meta is kept, its version and time replaced": (
        {
            "resourceType": "Patient",
            "active": True,
            "meta": {"versionId": "9", "source": "#x", "lastUpdated": "y", "tag": [{"code": "t"}]},
        },
        '{"resourceType":"Patient","id":"p1","active":true,"meta":{@,"source":"#x","tag":[{"code":"t"}]}}',
    ),
    "resourceType comes first": (
        {"active": True, "resourceType": "Patient"},
        '{"resourceType":"Patient","id":"p1","meta":{@},"active":true}',
    ),
    "a string like the placeholder does no harm": (
        {"resourceType": "Patient", "language": '"versionId":\\u0000'},
        '{"resourceType":"Patient","id":"p1","meta":{@},"language":"\\"versionId\\":\\\\u0000"}',
    ),
}


@pytest.mark.parametrize(("resource", "expected"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_the_stored_form(resource, expected):
    said = '"versionId":"3","lastUpdated":"2023-11-14T22:13:20.123456Z"'
    assert template(resource, KEY).body(3, UPDATED).decode() == expected.replace("@", said)


def test_same_content_ignores_version_and_time_alone():
    one = template({"resourceType": "Patient", "active": True}, KEY)
    other = template({"resourceType": "Patient", "active": False}, KEY)
    assert one.same_content(one.body(1, 1))
    assert one.same_content(one.body(22, UPDATED))
    assert not one.same_content(other.body(1, 1))
    assert not one.same_content(one.body(1, 1) + b" ")
    assert not one.same_content(re.sub(rb'"1"', b'"1","x":"', one.body(1, 1), count=1))
    assert not one.same_content(b"")


def test_the_encoder_refuses_what_is_no_json():
    with pytest.raises(TypeError):
        encode({"a": object()})


def test_a_number_is_a_decimal():
    assert Number("1.50") + 1 == Number("2.5")
    assert Number("-0").text == "-0"
