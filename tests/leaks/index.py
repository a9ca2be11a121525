"""What each seed can be found by: its index entries as the values of search parameters."""

from collections.abc import Iterator
from functools import cache
from urllib.parse import quote

from resources.model import ResourceKey
from search.entries import Entries
from search.parameters import Parameter
from tests.leaks.hospital import Seed, seeds
from tests.leaks.worlds import parts

_MOST = 3
"""Values of one parameter."""


@cache
def indexed() -> tuple[tuple[Seed, Entries], ...]:
    """The seeds as they are indexed."""
    extractor = parts().preparer.extractor
    return tuple(
        (seed, extractor.extract(seed.resource, ResourceKey(seed.type, seed.resource["id"]))) for seed in seeds()
    )


def parameters(kind: str) -> list[Parameter]:
    return [one for one in parts().registry.searchable(kind) if one.searchable]


def _said(parameter: Parameter, entries: Entries) -> Iterator[str]:
    """Values that find the resource by the parameter."""
    rows = parameter.rows or (parameter.code,)
    match parameter.type:
        case "token":
            for token in entries.tokens:
                if token.parameter in rows and not token.group:
                    yield f"{token.system}|{token.code}" if token.system else token.code
                    yield token.code
        case "string":
            yield from (one.exact for one in entries.strings if one.parameter in rows and one.exact)
        case "reference":
            yield from (str(one.target) for one in entries.references if one.parameter in rows)
            yield from (one.target.id for one in entries.references if one.parameter in rows)
            yield from (one.value for one in entries.uris if one.parameter in rows)
        case "uri":
            yield from (one.value for one in entries.uris if one.parameter in rows)
        case "date":
            yield from ("ge2026-11-01" for one in entries.dates if one.parameter in rows)
        case "special":
            yield from (one.word for one in entries.words if one.parameter in rows)


def pairs(seed: Seed, entries: Entries) -> Iterator[tuple[Parameter, str]]:
    for parameter in parameters(seed.type):
        if parameter.type != "composite":
            for value in tuple(dict.fromkeys(_said(parameter, entries)))[:_MOST]:
                yield parameter, value


def quoted(value: str) -> str:
    return quote(value.replace("\\", "\\\\").replace(",", "\\,"), safe="")
