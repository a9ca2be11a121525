"""JSON as a reader of its own sees it, without the product's decoder: numbers are their tokens, members keep their order."""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Token(NamedTuple):
    """A number as it was written."""

    text: str


def parse(body: bytes) -> Any:
    """The JSON value; a float that is equal but spelled otherwise is another value."""
    return json.loads(body, parse_float=Token, parse_int=Token)


def bundle(path: Path) -> Any:
    """The Bundle in a packed file."""
    return parse(gzip.decompress(path.read_bytes()))


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every string changed by `change`."""
    if isinstance(value, Token):
        return value
    if isinstance(value, dict):
        return {name: mapped(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def spelled(value: Any) -> str:
    """A text that is the same for values that are the same, order of members and spelling of numbers included."""
    if isinstance(value, Token):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{spelled(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return json.dumps(value)


def content(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The resource without id and meta, which the server gives; meta as sent is compared apart."""
    return {name: value for name, value in resource.items() if name not in ("id", "meta")}


def sent_meta(resource: Mapping[str, Any]) -> Any:
    """What of meta is the client's."""
    return {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}


def colours(resources: Mapping[str, Mapping[str, Any]], rounds: int = 8) -> Counter[str]:
    """How often each content occurs when addresses are replaced by the contents they lead to, `rounds` deep.

    `resources` by the address under which others refer to them. Two sets of linked resources that differ by addresses alone
    have the same colours.
    """
    known = dict.fromkeys(resources, "")
    shapes = {address: (content(resource), sent_meta(resource)) for address, resource in resources.items()}
    for _ in range(rounds):
        known = {
            address: _digest(spelled(mapped(list(shape), lambda text: known.get(text, text))))  # noqa: B023
            for address, shape in shapes.items()
        }
    return Counter(known.values())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def counts(bundles: Iterable[Any]) -> Counter[str]:
    """Resources of the Bundles by type."""
    return Counter(entry["resource"]["resourceType"] for bundle in bundles for entry in bundle["entry"])
