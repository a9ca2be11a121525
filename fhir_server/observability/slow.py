"""The shape of a request for the log of slow ones: names and modifiers of its parameters, never a value.

Rules: a name is shown part by part, and a part only when it is a word of the specification (a search parameter, a resource type, a
modifier); anything else, which a client may have put there by mistake, is `?`. Of values, those of `_sort`, `_include` and
`_revinclude` are names themselves and are shown by the same rule.
"""

import re
from collections.abc import Collection, Iterable

_SHOWN_VALUES = frozenset({"_sort", "_include", "_revinclude", "_include:iterate", "_revinclude:iterate"})
_MODIFIERS = (
    "missing exact contains text not above below in not-in of-type ofType identifier type iterate recurse "
    "code-text text-advanced _has _format _pretty _count _sort _include _revinclude _summary _elements _total _contained "
    "_containedType _cursor _since _at _list _content _text _filter _query _id _lastUpdated _tag _profile _security _source _type"
)
MODIFIERS = frozenset(_MODIFIERS.split())
_PART = re.compile(r"([:.,\-]?)([^:.,]*)")
_MOST = 50


def vocabulary(parameters: Iterable[str], types: Iterable[str]) -> frozenset[str]:
    """The words that may be shown."""
    return frozenset({*parameters, *types, *MODIFIERS})


def shape_of(pairs: Iterable[tuple[str, str]], words: Collection[str]) -> list[str]:
    """Each parameter as name and modifiers, in the order sent; at most 50."""
    shown = []
    for name, value in pairs:
        text = _known(name, words)
        shown.append(f"{text}={_known(value, words)}" if name in _SHOWN_VALUES else text)
        if len(shown) == _MOST:
            break
    return shown


def _known(text: str, words: Collection[str]) -> str:
    if text in words:  # most are a single word
        return text
    parts = []
    for mark, word in re.findall(r"([:.,]|^)(-?[^:.,]*)", text):
        bare = word.removeprefix("-")
        parts.append(mark + (word if bare in words else "?"))
    return "".join(parts)
