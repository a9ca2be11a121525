"""The codes of value sets: composes over a small terminology, and every value set of the specification."""

import pytest

from fhir_server.storage.sqlite.concepts import URL_ROWS
from resources.definitions import load
from search.parameters import Registry
from terminology import published
from terminology.expansion import NotExpandable, ancestors, descendants, expand
from terminology.ports import CodeSystem, ValueSet

TREE = CodeSystem("t", "1", {"a": (), "b": ("a",), "c": ("b",), "d": ("a", "b"), "z": ()}, {}, complete=True)
PART = CodeSystem("p", "1", {"x": ()}, {}, complete=False)


class Small:
    def code_system(self, url):
        return {"t": TREE, "p": PART}.get(url)

    def value_set(self, url, version):
        return (
            ValueSet(url, "", {"include": [{"system": "t", "concept": [{"code": "b"}, {"code": "z"}]}]})
            if url == "v"
            else None
        )


def of(*include, exclude=()):
    return expand(ValueSet("x", "", {"include": list(include), "exclude": list(exclude)}), Small())


def codes(expansion):
    return "".join(sorted(code for _, code in expansion.codes))


def filtered(name, operator, value):
    return {"system": "t", "filter": [{"property": name, "op": operator, "value": value}]}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"system": "t"}, "abcdz"),
        ({"system": "t", "concept": [{"code": "a"}, {"code": "new"}]}, "anew"),
        (filtered("concept", "is-a", "b"), "bcd"),
        (filtered("concept", "descendent-of", "b"), "cd"),
        (filtered("concept", "is-not-a", "b"), "az"),
        (filtered("concept", "generalizes", "c"), "abc"),
        (filtered("code", "in", "a,c,none"), "ac"),
        (filtered("code", "not-in", "a,c"), "bdz"),
        (filtered("code", "regex", "[ab]"), "ab"),
        (filtered("parent", "=", "a"), "bd"),
        (filtered("child", "=", "d"), "ab"),
        ({"system": "t", "valueSet": ["v"]}, "bz"),
        ({"valueSet": ["v"]}, "bz"),
        ({**filtered("concept", "is-a", "b"), "valueSet": ["v"]}, "b"),
        ({}, ""),
    ],
)
def test_an_include_means_its_codes(part, expected):
    assert "".join(sorted(codes(of(part)))) == "".join(sorted(expected))


def test_includes_are_united_and_excludes_taken_away():
    found = of(
        filtered("concept", "is-a", "b"), {"system": "t", "concept": [{"code": "z"}]}, exclude=[{"valueSet": ["v"]}]
    )
    assert codes(found) == "cd"


@pytest.mark.parametrize("system", ["p", "elsewhere"])
def test_a_system_whose_codes_are_not_all_here_counts_as_a_whole(system):
    found = of({"system": system})
    assert found.systems == {system}
    assert found.has(system, "anything")
    assert of({"system": system}, exclude=[{"system": system}]).systems == frozenset()


@pytest.mark.parametrize(
    ("part", "exclude", "reason"),
    [
        (
            {"system": "s", "filter": [{"property": "concept", "op": "is-a", "value": "1"}]},
            (),
            "filters s, whose codes",
        ),
        (filtered("colour", "=", "red"), (), "by colour ="),
        (filtered("code", "regex", "("), (), "no regular expression"),
        ({"valueSet": ["w|2"]}, (), "value set w|2, which is not known"),
        ({"system": "s"}, ({"system": "s", "concept": [{"code": "1"}]},), "excludes codes of s"),
    ],
)
def test_what_cannot_be_decided_says_why(part, exclude, reason):
    with pytest.raises(NotExpandable, match=reason.replace("|", r"\|")):
        of(part, exclude=exclude)


def test_a_hierarchy_with_a_circle_ends():
    circle = CodeSystem("c", "", {"a": ("b",), "b": ("a",)}, {}, complete=True)
    assert descendants(circle, "a") == {"b"}
    assert ancestors(circle, "a") == {"b"}


class R4:
    def code_system(self, url):
        return published.code_system(load(), url)

    def value_set(self, url, version):
        return published.value_set(load(), url, version)


def test_the_value_sets_of_the_specification_expand():
    expanded, refused = 0, 0
    for url in load().value_set_definitions:
        try:
            expand(R4().value_set(url, None), R4())
            expanded += 1
        except NotExpandable:
            refused += 1
    assert (expanded, refused) == (1258, 58)


def test_required_bindings_and_expansions_agree():
    definitions, differing = load(), []
    for url in sorted(definitions.required_value_sets):
        known = definitions.value_set(url)
        row = R4().value_set(url, None)
        if known is None or row is None:
            continue
        found = expand(row, R4())
        if not found.systems and {(s, c) for s, codes in known.systems.items() for c in codes} != found.codes:
            differing.append(url)
    assert differing == []


def test_implicit_value_sets_are_whole_systems():
    assert expand(R4().value_set("http://snomed.info/sct?fhir_vs", None), R4()).systems == {"http://snomed.info/sct"}
    assert expand(R4().value_set("http://loinc.org/vs", None), R4()).systems == {"http://loinc.org"}
    assert R4().value_set("http://nobody.org/vs", None) is None


def test_canonical_urls_are_found_under_the_rows_they_are_stored_in():
    registry = Registry(load())
    assert {kind: registry.find(kind, "url").rows for kind in URL_ROWS} == {k: (row,) for k, row in URL_ROWS.items()}
