"""What the tests of parsing and rewriting share: the registry, and a search by its query string."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest

from resources.definitions import load
from search.extract import Extractor
from search.limits import SearchLimits
from search.parameters import Registry
from search.parser import parse
from search.values import ValueContext

BASES = ("http://localhost/fhir",)
NOW = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.fixture(scope="session")
def registry():
    return Registry(load())


@pytest.fixture(scope="session")
def parsed(registry):
    """Parses a query string."""
    values = ValueContext(NOW, UTC, BASES, Extractor(load(), registry, BASES).datatypes)

    def run(type_name, text, handling="strict", **limits):
        pairs = parse_qsl(text, keep_blank_values=True)
        return parse(registry, type_name, pairs, values=values, limits=SearchLimits(**limits), handling=handling)

    return run
