"""Client assertions: a JWT by which a client proves that it has the private half of a key it registered (private_key_jwt).

Authlib's own class refuses RS384 and ES384, which SMART requires, takes RS256, and takes an `exp` a year ahead; so none of it is used.

Rules.
1. Header: alg RS384 or ES384, a kid, typ JWT if any, `jku` only if it is the registered URL; nothing else (no jwk, x5u, x5c, crit, b64).
2. Claims: iss = sub = the client, aud = our token endpoint alone, exp at most `LONGEST` seconds ahead, jti used once; nbf and iat not
   ahead of us. Clocks may differ by `LEEWAY` seconds.
3. No key is looked for, and nothing fetched, before all of that is seen; a jti counts as used when the signature was good.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html#authenticating-to-the-token-endpoint,
https://www.rfc-editor.org/rfc/rfc7523#section-3
"""

import binascii
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final

from authlib.oauth2 import OAuth2Error
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import import_key

from smart_auth.keys import KeyFault
from smart_auth.model import Client
from smart_auth.oauth.answers import fault
from smart_auth.oauth.client_keys import ClientKeys
from smart_auth.oauth.fetching import FetchFault
from smart_auth.ports import AuthStore

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS: Final[Mapping[str, str]] = {"RS384": "RSA", "ES384": "EC"}
"""Algorithm -> kty of its keys."""
LONGEST: Final = 300
LEEWAY: Final = 60
_MOST = 16 * 1024
_HEADER = frozenset({"alg", "kid", "typ", "jku"})
_JTI = 256


def client_of(store: AuthStore, keys: ClientKeys, token_url: str, now: Callable[[], int], assertion: str) -> Client:
    """The client whom the assertion proves. Raises OAuth2Error `invalid_client`."""
    header, claims = _parts(assertion)
    _check_header(header)
    _check_claims(claims, token_url, now())
    client = store.client(claims["iss"])
    if client is None or client.disabled or client.kind not in ("asymmetric", "backend"):
        raise _bad("it is not signed by a known client")
    if "jku" in header and (not client.jwks_url or header["jku"] != client.jwks_url):
        raise _bad("its jku is not the registered URL")
    _check_signature(assertion, header, client, keys)
    until = int(claims["exp"]) + LEEWAY + 1
    if not store.use_once("assertion", f"{client.id} {claims['jti']}", until):
        raise _bad("its jti was used before")
    return client


def _parts(assertion: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if len(assertion) > _MOST or assertion.count(".") != 2 or not assertion.isascii():  # noqa: PLR2004
        raise _bad("it is no signed JWT, or too long")
    header, claims, _ = assertion.split(".")
    return _object(header), _object(claims)


def _object(segment: str) -> Mapping[str, Any]:
    try:
        raw = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        found = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (binascii.Error, ValueError, RecursionError):
        raise _bad("its header and claims are not JSON objects") from None
    if not isinstance(found, dict):
        raise _bad("its header and claims are not JSON objects")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is given twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _check_header(header: Mapping[str, Any]) -> None:
    if not isinstance(header.get("alg"), str) or header["alg"] not in ALGORITHMS:
        raise _bad(f"its alg is not one of {', '.join(ALGORITHMS)}")
    if not isinstance(header.get("kid"), str) or not header["kid"]:
        raise _bad("its header has no kid")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise _bad("its typ is not JWT")
    if beyond := header.keys() - _HEADER:
        raise _bad(f"its header has {min(beyond)}, which is not supported")


def _check_claims(claims: Mapping[str, Any], token_url: str, now: int) -> None:
    issuer, audience, jti = claims.get("iss"), claims.get("aud"), claims.get("jti")
    if not isinstance(issuer, str) or not issuer or claims.get("sub") != issuer:
        raise _bad("its iss and sub are not both the client_id")
    if audience not in (token_url, [token_url]):
        raise _bad(f"its aud is not {token_url}")
    if not isinstance(jti, str) or not 0 < len(jti) <= _JTI:
        raise _bad(f"its jti is not a text of 1 to {_JTI} characters")
    if not _is_time(claims.get("exp")):
        raise _bad("its exp is not a number")
    if claims["exp"] <= now - LEEWAY:
        raise _bad("it has expired")
    if claims["exp"] > now + LONGEST + LEEWAY:
        raise _bad(f"its exp is more than {LONGEST} seconds ahead")
    for name in ("nbf", "iat"):
        if name in claims and (not _is_time(claims[name]) or claims[name] > now + LEEWAY):
            raise _bad(f"its {name} is not a number, or ahead")


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_signature(assertion: str, header: Mapping[str, Any], client: Client, keys: ClientKeys) -> None:
    algorithm = header["alg"]
    try:
        row = keys.key(client, header["kid"], ALGORITHMS[algorithm])
        jws.deserialize_compact(assertion, import_key(dict(row)), algorithms=[algorithm])
    except FetchFault as error:
        raise _bad(str(error)) from None
    except (KeyFault, JoseError, ValueError, TypeError):
        raise _bad("it is not signed by a key of the client that kid and alg select") from None


def _bad(why: str) -> OAuth2Error:
    return fault("invalid_client", f"the client assertion is refused: {why}")
