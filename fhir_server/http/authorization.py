"""What a request needs of the access token: the letters of its interaction on its type, and what it may look at then.

Rules.
1. Every shape of path and method is in a table; what is in none is refused. Operations say what they need in their own table.
2. That no scope or role reaches the type with the letter is 403, whatever there is. Which resources are reached is the narrowing's business.
3. The entries of a Bundle are authorized one by one, as requests of their own; those that write, when they are committed.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html, https://www.rfc-editor.org/rfc/rfc6750#section-3
"""

from typing import Final, Literal

from resources.errors import FhirError
from search.narrowing import EVERYTHING, Narrowing
from smart_auth.access.decisions import Access

OperationAccess = Literal["read", "search", "collect", "change", "try", "operate"]
"""What an operation needs: to read (r), to search (s), both, to read and update (r, u), to write in some way, or an operator."""

_CALLS: Final = {"read": "r", "search": "s", "collect": "rs", "change": "ru"}
_READ: Final = {
    "/": "s",
    "/_history": "s",
    "/{type}": "s",
    "/{type}/_history": "s",
    "/{type}/{id}": "r",
    "/{type}/{id}/_history": "r",
    "/{type}/{id}/_history/{version}": "r",
    "/{type}/{id}/{member}": "s",
}
_SEARCHED: Final = frozenset({"/_search", "/{type}/_search", "/{type}/{id}/{member}/_search"})
"""Shapes of search by POST."""
_WRITTEN: Final = {
    ("POST", "/{type}"): "c",
    ("PUT", "/{type}"): "su",
    ("PATCH", "/{type}"): "rsu",
    ("DELETE", "/{type}"): "sd",
    ("PUT", "/{type}/{id}"): "u",
    ("PATCH", "/{type}/{id}"): "ru",
    ("DELETE", "/{type}/{id}"): "d",
}
_NAMES: Final = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}
_BUNDLE: Final = ("POST", "/")


def authorized(access: Access, method: str, shape: str, segments: tuple[str, ...]) -> Narrowing:
    """What the request may look at. Raises FhirError 403 when the token does not reach so far."""
    kind = _kind(shape, segments)
    found = access.authorized.get((method, shape, kind))
    if found is None:
        found = access.authorized[method, shape, kind] = _narrowing(access, method, shape, kind)
    return found


def _narrowing(access: Access, method: str, shape: str, kind: str | None) -> Narrowing:
    if shape == "/metadata":
        return EVERYTHING
    if (method, shape) == _BUNDLE or shape.endswith("/$operation"):
        return access.writing()
    if shape in _SEARCHED:
        return _reaching(access, "s", kind)
    if method in ("GET", "HEAD") and shape in _READ:
        return _reaching(access, _READ[shape], kind)
    letters = _WRITTEN.get((method, shape))
    if letters is None:
        raise FhirError(403, "forbidden", f"{method} {shape} is not for access tokens")
    _require(access, letters, kind)
    return access.narrowing("r") if method == "PATCH" else access.writing()


def authorized_call(access: Access, needs: OperationAccess | None, name: str, kind: str | None) -> Narrowing:
    """What a call of an operation may look at. Raises FhirError 403; an operation that says nothing is for nobody."""
    match needs:
        case None:
            raise FhirError(403, "forbidden", f"{name} is not for access tokens")
        case "operate":
            if not access.operates:
                raise FhirError(403, "forbidden", f"{name} is for operators")
            return EVERYTHING
        case "try":
            if kind is not None and not any(access.allows(kind, letter) for letter in "cud"):
                raise insufficient("write", kind)
            return access.writing()
        case _:
            return _reaching(access, _CALLS[needs], kind)


def insufficient(verb: str, kind: str | None) -> FhirError:
    """403 for a token whose scopes and person do not go so far."""
    what = kind or "anything"
    return FhirError(
        403,
        "forbidden",
        f"this access token does not allow to {verb} {what}",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", error_description="may not {verb} {what}"'},
    )


def _reaching(access: Access, letters: str, kind: str | None) -> Narrowing:
    _require(access, letters, kind)
    return access.narrowing(letters)


def _require(access: Access, letters: str, kind: str | None) -> None:
    for letter in letters:
        if kind is None:
            reached = any(access.allows(one, letter) for one in access.rules.types)
        else:
            reached = access.allows(kind, letter)
        if not reached:
            raise insufficient(_NAMES[letter], kind)


def _kind(shape: str, segments: tuple[str, ...]) -> str | None:
    """The type that a path is about; None: all types."""
    if not shape.startswith("/{type}"):
        return None
    if "{member}" in shape:
        return None if segments[2] == "*" else segments[2]
    return segments[0]
