import pytest

from resources.model import ResourceKey
from resources.references import Link, Target, absolutise, parse, parse_canonical, rewrite

BASE = "https://here.org/fhir"
UUID = "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"
MAPPING = {
    UUID: Target(ResourceKey("Patient", "new"), "1"),
    "http://a.org/Patient/1": Target(ResourceKey("Patient", "2")),
}


@pytest.mark.parametrize(
    ("text", "form", "kind", "key", "version", "fragment"),
    [
        ("Patient/1", "local", "Patient", "Patient/1", "", ""),
        ("Patient/1/_history/2", "local", "Patient", "Patient/1", "2", ""),
        ("Patient/1#x", "local", "Patient", "Patient/1", "", "x"),
        (f"{BASE}/Patient/1", "local", "Patient", "Patient/1", "", ""),
        (f"{BASE}/Patient/1/_history/3", "local", "Patient", "Patient/1", "3", ""),
        ("https://there.org/fhir/Patient/1", "external", "Patient", None, "", ""),
        ("https://there.org/other", "external", "", None, "", ""),
        (f"{BASE}x/Patient/1", "external", "Patient", None, "", ""),
        (UUID, "urn", "", None, "", ""),
        ("urn:oid:1.2.3", "urn", "", None, "", ""),
        ("#", "contained", "", None, "", ""),
        ("#x", "contained", "", None, "", "x"),
        ("Patient?identifier=a|b", "conditional", "Patient", None, "", ""),
        ("Patient", "other", "", None, "", ""),
        ("Patient/a_b", "other", "", None, "", ""),
        ("", "other", "", None, "", ""),
    ],
)
def test_a_reference_is_read(text, form, kind, key, version, fragment):
    found = parse(text, (BASE,))
    assert found == (form, kind, found.key, version, fragment)
    assert (str(found.key) if found.key else None) == key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://a.org/x", ("http://a.org/x", "", "")),
        ("http://a.org/x|1.0", ("http://a.org/x", "1.0", "")),
        ("http://a.org/x|1.0#p", ("http://a.org/x", "1.0", "p")),
        ("#p", ("", "", "p")),
    ],
)
def test_a_canonical_is_read(text, expected):
    assert parse_canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Patient/1", f"{BASE}/Patient/1"),
        ("http://a.org/Patient/1", "http://a.org/Patient/1"),
        ("#x", "#x"),
        (UUID, UUID),
    ],
)
def test_a_reference_is_made_absolute(text, expected):
    assert absolutise(text, BASE) == expected


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("Reference", UUID, "Patient/new"),
        ("Reference", f"{UUID}#part", "Patient/new#part"),
        ("Reference", "http://a.org/Patient/1", "Patient/2"),
        ("Reference", "http://a.org/Patient/1/_history/7", "Patient/2/_history/7"),
        ("Reference", f"{UUID}/_history/9", "Patient/new/_history/1"),
        ("Reference", "http://a.org/Patient/11", "http://a.org/Patient/11"),
        ("uri", UUID, f"{BASE}/Patient/new"),
        ("url", "http://a.org/Patient/1", f"{BASE}/Patient/2"),
        ("uri", "http://loinc.org", "http://loinc.org"),
        ("xhtml", f'<a href="{UUID}">{UUID}</a>', f'<a href="{BASE}/Patient/new">{UUID}</a>'),
        ("xhtml", f"<img src = '{UUID}#x'/>", f"<img src = '{BASE}/Patient/new#x'/>"),
        ("xhtml", '<a href="http://e.org">x</a>', '<a href="http://e.org">x</a>'),
    ],
)
def test_a_link_is_rewritten(kind, text, expected):
    holder = {"x": text}
    assert rewrite([Link(holder, "x", kind)], MAPPING, BASE) == (text != expected)
    assert holder == {"x": expected}


def test_a_link_in_an_array_is_rewritten_in_its_place():
    holder = ["a", UUID]
    assert rewrite([Link(holder, 0, "uri"), Link(holder, 1, "uri")], MAPPING) == 1
    assert holder == ["a", "Patient/new"]


def test_an_entry_whose_link_is_gone_is_passed_over():
    assert rewrite([Link({"x": None}, "x", "Reference")], MAPPING) == 0
