"""The parameters of a request, from a query string or a form, read once and strictly.

Rules. A parameter without a value counts as left out (RFC 6749, 3.1). What is given twice is noted, for no endpoint takes it. Values are
UTF-8, only `state` is kept as Latin-1 text of its bytes: it goes back byte for byte whatever it is.

Specification: https://www.rfc-editor.org/rfc/rfc6749#section-3.1, https://url.spec.whatwg.org/#application/x-www-form-urlencoded
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

MOST_BYTES = 64 * 1024
_MOST = 100


class ParameterFault(Exception):  # noqa: N818  (rendered by its catcher as invalid_request)
    """Parameters that cannot be read; the message is ASCII and quotes none of them."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """`values` by name; `repeated` are the names given more than once, of which `values` has none."""

    values: Mapping[str, str]
    repeated: frozenset[str]


def read(*sources: bytes) -> Parameters:
    """The parameters of all sources together. Raises ParameterFault."""
    values: dict[str, str] = {}
    repeated = set()
    for source in sources:
        for raw_name, raw in _pairs(source):
            name = _decoded(raw_name)
            if name in values or name in repeated:
                repeated.add(name)
                values.pop(name, None)
            elif raw:
                values[name] = raw if name == "state" else _decoded(raw)
    return Parameters(values, frozenset(repeated))


def _pairs(source: bytes) -> list[tuple[str, str]]:
    if len(source) > MOST_BYTES:
        raise ParameterFault(f"the parameters have more than {MOST_BYTES} bytes")
    try:
        return parse_qsl(source.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=_MOST)
    except ValueError:
        raise ParameterFault(f"there are more than {_MOST} parameters") from None


def _decoded(raw: str) -> str:
    try:
        text = raw.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise ParameterFault("a parameter is not UTF-8") from None
    if "\0" in text:
        raise ParameterFault("a parameter has a NUL in it")
    return text
