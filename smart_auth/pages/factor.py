"""One's own second factor: begun, ended, and new recovery codes.

Rules.
1. Each change asks for the password again; who fails too often waits as at the login.
2. A factor begins when a code of it was shown to be right. The secret is kept by the page until then, and by nobody else.
3. Recovery codes are shown once, when they are made; those before are good no more.

Specification: https://www.rfc-editor.org/rfc/rfc6238, https://github.com/google/google-authenticator/wiki/Key-Uri-Format
"""

import re
from dataclasses import replace

from starlette.responses import Response

from smart_auth import attempts, passwords, sessions
from smart_auth.model import User, hashed
from smart_auth.pages.account import account
from smart_auth.pages.login import MESSAGES, left, proved
from smart_auth.pages.visit import STALE, Visit

_SECRET = re.compile("[A-Z2-7]{32}")


def factor(visit: Visit) -> Response:
    """`/auth/factor`."""
    signed_in = account(visit)
    if isinstance(signed_in, Response):
        return signed_in
    cookie, _, user = signed_in
    if not visit.posted:
        return _shown(visit, user)
    action = visit.text("action")
    if action not in (("codes", "disable") if user.totp else ("enable",)):
        raise STALE
    error, message = _refusal(visit, user, action)
    if error == "locked":
        wait = left(visit, attempts.subject("user", user.name))
        answer = _shown(visit, user, error, MESSAGES[error].format(wait=wait))
        answer.headers["Retry-After"] = str(wait)
        return answer
    if error:
        return _shown(visit, user, error, message)
    visit.told["note"] = f"second-factor-{action}"
    secret = {"enable": visit.text("secret"), "codes": user.totp, "disable": ""}[action]
    codes, kept = passwords.recovery_codes() if secret else ((), ())
    changed = visit.parts.store.change_user(user.name, lambda known: replace(known, totp=secret, recovery=kept))
    held = visit.parts.store.sessions(user.name)
    sessions.end(visit.parts, [(name, row) for name, row in held if name != hashed(cookie)])
    return _shown(visit, changed or user, codes=codes)


def _refusal(visit: Visit, user: User, action: str) -> tuple[str, str]:
    """Why a change is not made, and its message."""
    error = proved(visit, user)
    if error:
        return error, "The present password is not right."
    if action != "enable":
        return "", ""
    wanted = replace(user, totp=visit.text("secret"))
    code = "".join(visit.text("otp").split())
    if not _SECRET.fullmatch(wanted.totp) or not passwords.use_totp(visit.parts.store, wanted, code, visit.parts.now()):
        return "bad_code", MESSAGES["bad_code"]
    return "", ""


def _shown(visit: Visit, user: User, error: str = "", message: str = "", codes: tuple[str, ...] = ()) -> Response:
    sent = visit.text("secret") if visit.posted else ""
    secret = "" if user.totp else sent if _SECRET.fullmatch(sent) else passwords.totp_secret()
    return visit.page(
        "factor",
        401 if error else 200,
        error=error,
        message=message,
        username=user.name,
        on=bool(user.totp),
        secret=secret,
        uri=passwords.totp_uri(secret, user.name, visit.parts.public) if secret else "",
        codes=codes,
    )
