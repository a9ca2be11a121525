"""The hint of an app at a person: an id_token that this server gave it before (`id_token_hint`).

Rules. It opens nothing; it may have expired. What is no id_token of ours is no hint.

Specification: https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest
"""

from collections.abc import Mapping
from typing import Any

from smart_auth.model import Client
from smart_auth.parts import AuthParts


def claims_of(parts: AuthParts, hint: str) -> Mapping[str, Any]:
    """What an id_token of ours says, also when it has expired; nothing when it is none."""
    from joserfc import jwt  # noqa: PLC0415  (composing the server needs no cryptography)
    from joserfc.errors import JoseError  # noqa: PLC0415
    from joserfc.jwk import KeySet  # noqa: PLC0415

    rows = [row for row in parts.tokens.jwks()["keys"] if row["kty"] == "RSA"]
    try:
        found = jwt.decode(hint, KeySet.import_key_set({"keys": rows}), algorithms=["RS256"])
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):  # whatever it is, it is no id_token of ours
        return {}
    claims = found.claims
    return claims if isinstance(claims, dict) and claims.get("iss") == parts.base else {}


def person_of(parts: AuthParts, client: Client, hint: str) -> str:
    """The name of the user of whom the id_token told this client, "" when it did not."""
    claims = claims_of(parts, hint) if hint else {}
    return str(claims.get("sub", "")) if claims.get("aud") == client.id else ""
