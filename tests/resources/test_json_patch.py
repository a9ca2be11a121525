"""https://www.rfc-editor.org/rfc/rfc6902 (appendix A is the first part of the cases), https://www.rfc-editor.org/rfc/rfc6901"""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import FhirError
from resources.json_format import Number, decode, decode_array, encode
from resources.patching.json_patch import apply_patch, equal, read_patch
from resources.patching.limits import PatchLimits

CASES = json.loads((Path(__file__).resolve().parent.parent / "cases" / "json_patch.json").read_text("utf-8"))
LIMITS = PatchLimits()

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "~", "/"])
NUMBERS = st.sampled_from(["1.0", "1.00", "-0", "1e3"]).map(Number)
NAMES = st.sampled_from(["a", "b", "", "~", "/", "~1", "0", "-"])
VALUES = st.recursive(
    SCALARS | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)


def patched(document, patch, limits=LIMITS):
    return apply_patch(document, read_patch(patch, limits), limits)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_cases_of_the_specification(case):
    document = case["document"]
    before = copy.deepcopy(document)
    if "expected" in case:
        made = patched(document, case["patch"])
        assert encode(made) == encode(case["expected"])
    else:
        with pytest.raises(FhirError) as caught:
            patched(document, case["patch"] if "patch" in case else decode_array(case["text"].encode()))
        assert caught.value.status == case["status"]
        assert case["said"] in caught.value.issues[0].diagnostics
    assert document == before


def test_numbers_keep_their_tokens_and_are_compared_by_value():
    document = decode(b'{"a":1.00,"b":[1e3,-0,0.00000001]}')
    patch = decode_array(
        b'[{"op":"test","path":"/a","value":1},{"op":"test","path":"/b","value":[1000,0,1E-8]},'
        b'{"op":"copy","from":"/b/0","path":"/c"},{"op":"add","path":"/d","value":2.50}]'
    )
    assert encode(patched(document, patch)) == b'{"a":1.00,"b":[1e3,-0,0.00000001],"c":1e3,"d":2.50}'


def test_the_value_of_a_patch_is_not_shared_with_what_it_makes():
    patch = [{"op": "add", "path": "/x", "value": {"y": []}}]
    operations = read_patch(patch, LIMITS)
    first = apply_patch({}, operations, LIMITS)
    first["x"]["y"].append(1)
    assert apply_patch({}, operations, LIMITS) == {"x": {"y": []}}


ROW = {"url": "x", "extension": [{"url": "y"}]}
COPYING = [{"op": "add", "path": "/extension", "value": [ROW]}]
BOUNDED = {
    "copies that double": [
        *COPYING,
        *[{"op": "copy", "from": "/extension/0", "path": "/extension/0/extension/-"}] * 24,
    ],
    "copies of arrays": [*COPYING, *[{"op": "copy", "from": "/extension", "path": "/extension/0/extension/-"}] * 24],
    "copies side by side": [{"op": "copy", "from": "/a", "path": f"/a{at}"} for at in range(900)],
    "replaced by more and more": [{"op": "copy", "from": "", "path": "/b/-"}] * 24,
}


@pytest.mark.parametrize("what", BOUNDED)
def test_what_was_sent_and_what_is_stored_bound_what_is_made(what):
    with pytest.raises(FhirError) as caught:
        patched({"a": "x" * 1000, "b": []}, BOUNDED[what])
    assert caught.value.status == 413
    assert "bytes" in str(caught.value)


def test_a_large_value_that_was_sent_may_be_copied_as_often_as_it_is_worth():
    sent = [
        {"op": "add", "path": "/c", "value": "x" * 1_000_000},
        {"op": "add", "path": "/d", "value": "x" * 1_000_000},
    ]
    assert len(patched({"a": 1}, sent)["d"]) == 1_000_000
    stored = {"a": "x" * 1_000_000}
    assert patched(stored, [{"op": "copy", "from": "/a", "path": "/b"}])["b"] == stored["a"]
    assert patched(stored, [{"op": "move", "from": "/a", "path": "/b"}])["b"] == stored["a"]


def doubling(count):
    return [{"op": "copy", "from": "", "path": f"/{at}"} for at in range(count)]


@pytest.mark.parametrize(
    ("patch", "limits", "status"),
    [
        pytest.param(doubling(60), PatchLimits(size=100_000), 413, id="copies that double and double"),
        pytest.param(
            [{"op": "copy", "from": "/a", "path": "/b/-"}] * 900, PatchLimits(size=100_000), 413, id="one large copy after another"
        ),
        pytest.param([{"op": "test", "path": "/a", "value": 1}] * 11, PatchLimits(operations=10), 413, id="too many operations"),
        pytest.param(
            [{"op": "copy", "from": "", "path": "/c" * at + "/c"} for at in range(200)], PatchLimits(depth=20), 422, id="ever deeper"
        ),
        pytest.param(
            [{"op": "add", "path": "/c", "value": {}}, {"op": "move", "from": "/d", "path": "/c/d"}], PatchLimits(depth=3), 422,
            id="moved deeper",
        ),
    ],
)  # fmt: skip
def test_a_patch_without_end_is_refused(patch, limits, status):
    with pytest.raises(FhirError) as caught:
        patched({"a": "x" * 1000, "b": [], "d": {"e": {"f": 1}}}, patch, limits)
    assert caught.value.status == status


# ---- a difference of two documents, as a patch


def pointer(path):
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def difference(one, other, path=()):
    """The patch that makes `other` of `one`; tokens of numbers count."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() - other.keys():
            yield {"op": "remove", "path": pointer((*path, name))}
        for name, value in other.items():
            if name in one:
                yield from difference(one[name], value, (*path, name))
            else:
                yield {"op": "add", "path": pointer((*path, name)), "value": value}
    elif isinstance(one, list) and isinstance(other, list):
        shared = min(len(one), len(other))
        for at in range(shared):
            yield from difference(one[at], other[at], (*path, at))
        for at in reversed(range(shared, len(one))):
            yield {"op": "remove", "path": pointer((*path, at))}
        for value in other[shared:]:
            yield {"op": "add", "path": f"{pointer(path)}/-", "value": value}
    elif encode(one) != encode(other):
        yield {"op": "replace", "path": pointer(path), "value": other}


@given(DOCUMENTS, DOCUMENTS)
def test_the_difference_of_two_documents_makes_one_of_the_other(one, other):
    before = encode(one)
    made = patched(one, list(difference(one, other)))
    assert list(difference(made, other)) == []
    assert encode(one) == before


@given(DOCUMENTS, VALUES)
def test_what_is_added_is_found_and_removed(document, value):
    made = patched(
        document, [{"op": "add", "path": "/new", "value": value}, {"op": "test", "path": "/new", "value": value}]
    )
    assert encode(patched(made, [{"op": "remove", "path": "/new"}])) == encode(document)


@given(VALUES)
def test_a_value_equals_itself_however_its_members_are_ordered(value):
    def turned(inner):
        if isinstance(inner, dict):
            return {name: turned(inner[name]) for name in reversed(inner)}
        return [turned(item) for item in inner] if isinstance(inner, list) else inner

    assert equal(value, turned(value))


@given(DOCUMENTS, st.lists(st.fixed_dictionaries({"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])}, optional={
    "path": st.lists(NAMES, max_size=3).map(pointer) | SCALARS,
    "from": st.lists(NAMES, max_size=3).map(pointer) | SCALARS,
    "value": VALUES,
}), max_size=6))  # fmt: skip
def test_no_patch_fails_but_by_a_fault_that_names_its_operation(document, patch):
    before, faults = encode(document), []
    try:
        patched(document, patch)
    except FhirError as error:
        faults.append(error)
    assert all(fault.status in (400, 422) for fault in faults)
    assert all(fault.issues[0].diagnostics.startswith("operation ") for fault in faults)
    assert encode(document) == before
