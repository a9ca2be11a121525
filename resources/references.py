"""Literal references, read and rewritten: relative, absolute, versioned, urn, contained, conditional; canonicals.

Rules. An absolute URL below one of this server's own bases is the same as the relative one. A link to a version stays a link to a
version. Canonicals are names, never links: they are not rewritten.

Specification: https://hl7.org/fhir/R4/references.html#literal, https://hl7.org/fhir/R4/http.html#trules
"""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from resources.model import ResourceKey

Form = Literal["local", "external", "urn", "contained", "conditional", "other"]
LinkKind = Literal["Reference", "uri", "url", "oid", "uuid", "xhtml"]

_REST = re.compile(
    r"(?:(?P<base>https?://\S+?)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?(?:#(?P<fragment>\S*))?"
)
_CONDITIONAL = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?\S*")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+")
_HREF = re.compile(r"""(?P<before>\b(?:href|src)\s*=\s*)(?P<quote>["'])(?P<link>.*?)(?P=quote)""", re.DOTALL)


class Reference(NamedTuple):
    """A reference as read.

    `type` is the resource type that the text names ("" when it names none); `key` is set when the form is local. `fragment` is
    the id of a contained resource. Forms: a resource of this server, one elsewhere (any absolute URL), `urn:uuid:` and `urn:oid:`
    (and other urns), `#x`, `Patient?identifier=x`, and what is none of these.
    """

    form: Form
    type: str = ""
    key: ResourceKey | None = None
    version: str = ""
    fragment: str = ""


class Canonical(NamedTuple):
    """A canonical as read: `http://a.org/ValueSet/x|1.0#part`; version and fragment "" when absent."""

    url: str
    version: str
    fragment: str


class Link(NamedTuple):
    """A place that holds a link: `container[key]` is its text, in a JSON object or array."""

    container: Any
    key: str | int
    kind: LinkKind


class Target(NamedTuple):
    """What a full URL stands for: the key, and the version that a versioned link gets ("" = the version it names)."""

    key: ResourceKey
    version: str = ""


def parse(text: str, own_bases: Iterable[str] = ()) -> Reference:
    """Read `Reference.reference`; `own_bases` are this server's base URLs without a slash at the end."""
    if text.startswith("#"):
        return Reference("contained", fragment=text[1:])
    found = _REST.fullmatch(text)
    if found is not None:
        base, kind, identity, version, fragment = found.groups()
        if base is None or base in own_bases:
            return Reference("local", kind, ResourceKey(kind, identity), version or "", fragment or "")
        return Reference("external", kind, None, version or "", fragment or "")
    if text.startswith("urn:"):
        return Reference("urn")
    found = _CONDITIONAL.fullmatch(text)
    if found is not None:
        return Reference("conditional", found["type"])
    return Reference("external") if _ABSOLUTE.fullmatch(text) else Reference("other")


def parse_canonical(text: str) -> Canonical:
    """Read a canonical: https://hl7.org/fhir/R4/references.html#canonical."""
    rest, _, fragment = text.partition("#")
    url, _, version = rest.partition("|")
    return Canonical(url, version, fragment)


def absolutise(text: str, base: str) -> str:
    """A relative reference as an absolute URL under `base` (no slash at its end); every other text as it is."""
    return f"{base}/{text}" if parse(text).form == "local" and not _ABSOLUTE.fullmatch(text) else text


def rewrite(places: Iterable[Link], mapping: Mapping[str, Target], base: str = "") -> int:
    """Replace, in place, the links that `mapping` (full URL -> target) knows; the number of places changed.

    A Reference gets a relative reference; uri, url, oid, uuid and narratives get the URL under `base` (relative when base is "").
    """
    changed = 0
    for container, key, kind in places:
        text = container[key]
        if text.__class__ is not str:
            continue
        new = _narrative(text, mapping, base) if kind == "xhtml" else _replaced(text, mapping)
        if new is None or new == text:
            continue
        absolute = base and kind not in ("Reference", "xhtml")
        container[key] = f"{base}/{new}" if absolute else new
        changed += 1
    return changed


def _replaced(text: str, mapping: Mapping[str, Target]) -> str | None:
    target = mapping.get(text)
    if target is not None:
        return str(target.key)
    if "#" not in text and "/_history/" not in text:
        return None
    rest, mark, fragment = text.partition("#")
    url, history, version = rest.partition("/_history/")
    target = mapping.get(url)
    if target is None or not (mark or history):
        return None
    return f"{target.key}{f'/_history/{target.version or version}' if history else ''}{mark}{fragment}"


def _narrative(div: str, mapping: Mapping[str, Target], base: str) -> str:
    if "href" not in div and "src" not in div:
        return div

    def replaced(found: re.Match[str]) -> str:
        new = _replaced(html.unescape(found["link"]), mapping)
        if new is None:
            return found[0]
        return f"{found['before']}{found['quote']}{html.escape(f'{base}/{new}' if base else new)}{found['quote']}"

    return _HREF.sub(replaced, div)
