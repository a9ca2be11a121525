"""$diff over the shared Synthea patients: the difference of two records of one type makes one of the other, to the token."""

import gzip

import pytest

from resources.definitions import load
from resources.json_format import canonical, decode, encode
from resources.patching.difference import difference
from resources.patching.fhirpath_patch import apply_patch, read_patch
from resources.patching.limits import PatchLimits

pytestmark = pytest.mark.shared
LIMITS = PatchLimits(operations=100_000)
QUICK = 3
"""Bundles of the quick tier."""


def test_the_difference_of_neighbours_makes_one_of_the_other(shared_data, rounds):
    definitions, compared = load(), 0
    smallest = sorted((shared_data / "synthea").iterdir(), key=lambda path: path.stat().st_size)
    for path in smallest[: QUICK * rounds]:
        before = {}
        for entry in decode(gzip.decompress(path.read_bytes()))["entry"]:
            new = entry["resource"]
            old = before.get(new["resourceType"])
            before[new["resourceType"]] = new
            if old is not None:
                patch = decode(encode(difference(old, new, definitions)))
                made = apply_patch(old, read_patch(patch, definitions, LIMITS), definitions)
                assert canonical(made) == canonical(new)
                compared += 1
    assert compared > 100
