"""Signing keys: made, rotated, retired, published; and the public keys of clients, judged.

Rules.
1. Access tokens are signed with ES256: checking one costs 85 us, with ES384 500 us. id_tokens are signed with RS256, as OpenID Connect asks.
2. The newest key that is neither retired nor disabled signs. A retired key still verifies what it signed, for `LONGEST` seconds after its
   successor came: no token lives longer. A disabled one verifies nothing from that moment on.
3. The kid is the thumbprint of RFC 7638. Nothing private leaves the store.

Specification: https://www.rfc-editor.org/rfc/rfc7517, https://www.rfc-editor.org/rfc/rfc7638,
https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html#registering-a-client-communicating-public-keys
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from smart_auth.model import Key
from smart_auth.options import LONGEST_TOKEN
from smart_auth.ports import AuthStore

KeyUse = Literal["access", "id"]

USES: Final[tuple[KeyUse, ...]] = ("access", "id")
ALGORITHMS: Final[Mapping[str, str]] = {"access": "ES256", "id": "RS256"}
LONGEST: Final = LONGEST_TOKEN
"""Seconds that any signed token may live."""
_RSA_BITS: Final = 2048
_PUBLIC: Final = frozenset(
    {"kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y", "x5u", "x5c", "x5t", "x5t#S256"}
)
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CLIENT_ALGORITHMS: Final = {"RSA": "RS384", "EC": "ES384"}


class KeyFault(ValueError):  # noqa: N818  (what is wrong with what somebody gave)
    """Keys that cannot be used; the message says which and why."""


def generate(use: KeyUse, now: int) -> Key:
    """A new signing key."""
    from joserfc.jwk import ECKey, RSAKey  # noqa: PLC0415  (the composition of the server needs no cryptography)

    made = ECKey.generate_key("P-256") if use == "access" else RSAKey.generate_key(_RSA_BITS)
    kid = made.thumbprint()
    jwk = {**made.as_dict(private=True), "kid": kid, "use": "sig", "alg": ALGORITHMS[use]}
    return Key(kid, use, jwk, now)


def ensure(store: AuthStore, now: int) -> None:
    """Make the keys that are missing."""
    for use in USES:
        if signing(store.keys(), use) is None:
            store.put_key(generate(use, now))


def rotate(store: AuthStore, now: int) -> tuple[Key, ...]:
    """New keys that sign from now on; those before are retired."""
    before = [key for key in store.keys() if not key.retired]  # noqa: SIM118  (no mapping)
    made = tuple(generate(use, now) for use in USES)
    for key in made:
        store.put_key(key)
    for key in before:
        store.put_key(replace(key, retired=True))
    return made


def signing(keys: Sequence[Key], use: KeyUse) -> Key | None:
    """The key that signs: the newest in use."""
    return next((key for key in keys if key.use == use and not key.retired and not key.disabled), None)


def trusted(keys: Sequence[Key], now: int) -> Iterator[Key]:
    """The keys that verify, newest first. `keys` are all, newest first."""
    successor: dict[str, int] = {}
    for key in keys:
        followed = successor.get(key.use)
        if not key.disabled and not (key.retired and followed is not None and followed + LONGEST < now):
            yield key
        successor[key.use] = key.created


def published(keys: Sequence[Key], now: int) -> dict[str, Any]:
    """The JWKS: the public half of every key that verifies."""
    return {
        "keys": [
            {name: value for name, value in key.jwk.items() if name in _PUBLIC and name != "key_ops"}
            for key in trusted(keys, now)
        ]
    }


def client_keys(document: Any) -> dict[str, Any]:
    """The JWKS of a client (or one JWK) as it may be kept. Raises KeyFault: private parts, kinds and sizes that SMART does not know, no kid.

    Which of several keys of one kid is meant is decided by kty; (kid, kty) must be unique.
    """
    rows = document.get("keys") if isinstance(document, dict) and "keys" in document else [document]
    if not isinstance(rows, list) or not rows:
        raise KeyFault("a JWKS is an object whose `keys` is a list of keys")
    seen: set[tuple[str, str]] = set()
    for index, row in enumerate(rows):
        named = (_client_key(row, f"key {index + 1}"), row["kty"])
        if named in seen:
            raise KeyFault(f"key {index + 1}: its kid and kty are those of another key")
        seen.add(named)
    return {"keys": rows}


def _client_key(row: Any, which: str) -> str:
    """The kid of a public key that a client may use."""
    from joserfc.errors import JoseError  # noqa: PLC0415
    from joserfc.jwk import import_key  # noqa: PLC0415

    if not isinstance(row, dict):
        raise KeyFault(f"{which}: is no JSON object")
    if private := sorted(_PRIVATE & row.keys()):
        raise KeyFault(
            f"{which}: holds private parts ({', '.join(private)}); a JWKS has public keys alone, so make new ones"
        )
    kty, kid = row.get("kty"), row.get("kid")
    if not isinstance(kid, str) or not kid:
        raise KeyFault(f"{which}: has no kid")
    if kty not in _CLIENT_ALGORITHMS or row.get("alg", _CLIENT_ALGORITHMS[kty]) != _CLIENT_ALGORITHMS[kty]:
        raise KeyFault(f"{which}: must be of kty RSA (for RS384) or EC (for ES384)")
    if kty == "EC" and row.get("crv") != "P-384":
        raise KeyFault(f"{which}: ES384 needs the curve P-384")
    if row.get("use", "sig") != "sig":
        raise KeyFault(f"{which}: its use is not sig")
    try:
        bits = _bits(row["n"]) if kty == "RSA" else _RSA_BITS
        usable = _RSA_BITS <= bits <= 4 * _RSA_BITS
        if usable:
            import_key(row)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise KeyFault(f"{which}: cannot be read ({error})") from None
    if not usable:
        raise KeyFault(f"{which}: an RSA key must have {_RSA_BITS} to {4 * _RSA_BITS} bits, not {bits}")
    return kid


def _bits(modulus: str) -> int:
    """The size of an RSA key, before anything is computed with it."""
    return int.from_bytes(base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))).bit_length()
