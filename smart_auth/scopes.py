"""SMART scopes: v1 (`patient/Patient.read`), v2 (`user/*.cruds`) and granular ones (`patient/Observation.rs?category=system|code`).

Rules.
1. Letters: c create; r read, vread and instance history; u update, patch and update-as-create; d delete; s search and the history of a
   type or the system. v1 `read` is `rs`, `write` is `cud`, `*` is `cruds`. Letters out of order, twice or none are refused.
2. A granular scope names one type and plain search parameters: no modifier, no chain, nothing that shapes a result. It may be
   percent-encoded; `+` is refused, for it could mean two things. Whether the type has the parameters is said by whoever parses the search.
3. What begins with a context and is no scope is refused by name. Other words are kept and give no access to resources.
4. Granted scopes are strings: they are compared literally, never normalised.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, cast
from urllib.parse import unquote_to_bytes

Context = Literal["patient", "user", "system"]
LETTERS: Final = "cruds"
CONTEXTS: Final = ("patient", "user", "system")
LONGEST: Final = 16 * 1024
"""Characters of all scopes together."""
MOST: Final = 500

IDENTITY: Final = frozenset({"openid", "fhirUser", "profile"})
LAUNCH: Final = frozenset({"launch", "launch/patient", "launch/encounter"})
LASTING: Final = frozenset({"offline_access", "online_access"})
WORDS: Final = IDENTITY | LAUNCH | LASTING
"""The scopes that are no resource scopes and mean something here."""

_V1: Final = {"read": "rs", "write": "cud", "*": LETTERS}
_SCOPE = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]{1,63})\.(read|write|\*|[a-z]{1,16})(?:\?(.+))?")
_LETTERS = re.compile("c?r?u?d?s?")
_TEXT = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
_PARAMETER = re.compile("[A-Za-z][A-Za-z0-9-]*|_id|_tag|_profile|_security|_source")


class ScopeFault(Exception):  # noqa: N818  (rendered by its catcher as invalid_scope)
    """A scope that cannot be understood. `scope` is its text, shortened; `reason` says what is wrong with it."""

    def __init__(self, scope: str, reason: str) -> None:
        super().__init__(f"{scope[:100]}: {reason}")
        self.scope = scope[:100]
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ResourceScope:
    """`type` "*": all types. `letters` in the order of `cruds`; `query` the decoded pairs of a granular scope; `text` as written."""

    context: Context
    type: str
    letters: str
    query: tuple[tuple[str, str], ...]
    text: str

    def allows(self, kind: str, letter: str) -> bool:
        """Whether it reaches the type with the letter, for some content."""
        return self.type in ("*", kind) and letter in self.letters

    def covers(self, other: "ResourceScope") -> bool:
        """Whether all that `other` allows is allowed by this one, to the same people."""
        return (
            self.context == other.context
            and self.type in ("*", other.type)
            and set(other.letters) <= set(self.letters)
            and set(self.query) <= set(other.query)
        )


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a scope string says. `resource` in the order written; `words` are all others, also unknown ones (`WORDS` has the known)."""

    text: str
    resource: tuple[ResourceScope, ...]
    words: tuple[str, ...]

    def allows(self, kind: str, letter: str) -> bool:
        """Whether some scope reaches the type with the letter (one of `cruds`); a granular one may still exclude a given resource."""
        return any(one.allows(kind, letter) for one in self.resource)

    def of(self, kind: str, letter: str) -> tuple[ResourceScope, ...]:
        """The scopes that reach the type with the letter."""
        return tuple([one for one in self.resource if one.allows(kind, letter)])

    def has(self, word: str) -> bool:
        """Whether the word (`openid`) is among them."""
        return word in self.words


@lru_cache(maxsize=4096)
def parse(text: str) -> Scopes:
    """Read a scope string; repeated scopes count once. Raises ScopeFault naming the first that is malformed."""
    if len(text) > LONGEST:
        raise ScopeFault(text, f"scopes have at most {LONGEST} characters")
    parts = tuple(dict.fromkeys(part for part in text.split(" ") if part))
    if len(parts) > MOST:
        raise ScopeFault(text, f"there are more than {MOST} scopes")
    resource, words = [], []
    for part in parts:
        if _TEXT.fullmatch(part) is None:
            raise ScopeFault(part, "it has a character that scopes cannot have")
        if part.partition("/")[0] in CONTEXTS:
            resource.append(_resource_scope(part))
        else:
            words.append(part)
    return Scopes(text, tuple(resource), tuple(words))


def is_literal_subset(part: str, whole: str) -> bool:
    """Whether every scope of `part` is written in `whole`: the rule of refresh."""
    return set(part.split()) <= set(whole.split())


def is_derivable(posted: str, requested: str) -> bool:
    """Whether the scope `posted` is one of `requested` or narrower than one: fewer types, letters, or more parameters.

    A word must have been requested as it is. Raises ScopeFault for a malformed scope.
    """
    asked = parse(requested)
    if posted in asked.words or any(posted == one.text for one in asked.resource):
        return True
    one = parse(posted)
    if one.words or len(one.resource) != 1 or one.resource[0].text != posted:
        return False
    return any(wider.covers(one.resource[0]) for wider in asked.resource)


def chosen(posted: Sequence[str], requested: str) -> str:
    """What is granted of scopes that were ticked: those derivable from `requested`, byte for byte, in their order.

    One that was not requested as it is gives way to a wider ticked one. Malformed ones, which no page offers, are left out.
    """
    kept = [one for one in dict.fromkeys(posted) if _is_offered(one, requested)]
    literal = set(requested.split())
    return " ".join(one for one in kept if one in literal or not _gives_way(one, kept))


def _gives_way(text: str, kept: Sequence[str]) -> bool:
    others = [parse(one).resource for one in kept if one != text]
    return any(scopes[0].covers(mine) for scopes in others if scopes for mine in parse(text).resource)


def _is_offered(posted: str, requested: str) -> bool:
    try:
        return is_derivable(posted, requested)
    except ScopeFault:
        return False


def _resource_scope(text: str) -> ResourceScope:
    found = _SCOPE.fullmatch(text)
    if found is None:
        raise ScopeFault(text, "it is not of the form context/Type.letters or context/Type.letters?parameter=value")
    context, kind, named, query = found.groups()
    letters = _V1.get(named, named)
    if _LETTERS.fullmatch(letters) is None:
        raise ScopeFault(text, "the letters are some of c, r, u, d, s, in this order, or read, write or *")
    if query is not None and (kind == "*" or named in _V1):
        raise ScopeFault(text, "only a scope of one type and of letters can have parameters")
    return ResourceScope(
        cast("Context", context), kind, letters, _pairs(text, query) if query is not None else (), text
    )


def _pairs(text: str, query: str) -> tuple[tuple[str, str], ...]:
    if "+" in query:
        raise ScopeFault(text, "a + in a scope could mean two things; write %2B or %20")
    pairs = []
    for part in query.split("&"):
        name, separator, value = part.partition("=")
        if not separator or not value:
            raise ScopeFault(text, "a parameter of a scope has a name and a value")
        if _PARAMETER.fullmatch(name) is None:
            raise ScopeFault(
                text, f"{name[:60]} is no plain search parameter: modifiers and chains are not supported in scopes"
            )
        try:
            decoded = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise ScopeFault(text, "its query is not percent-encoded UTF-8") from None
        if not decoded.isprintable() or not decoded.strip(" ,|"):
            raise ScopeFault(text, f"the value of {name} is empty or not printable")
        pairs.append((name, decoded))
    return tuple(dict.fromkeys(pairs))
