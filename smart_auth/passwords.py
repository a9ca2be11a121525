"""What people prove themselves with: passwords, second factors, recovery codes.

Rules.
1. A password is kept as argon2id with the parameters that OWASP gives (19 MiB, two passes), after NFKC, as NIST asks: the same letters typed on
   two keyboards are the same password.
2. Checking the password of somebody who does not exist costs what checking a real one costs.
3. A step of a second factor and a recovery code are good once, over all processes.

Specification: https://www.rfc-editor.org/rfc/rfc9106, https://pages.nist.gov/800-63-4/sp800-63b.html, https://www.rfc-editor.org/rfc/rfc6238
"""

import base64
import hmac
import secrets
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final

from smart_auth.model import User, hashed
from smart_auth.ports import AuthStore

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LONGEST: Final = 1024
_PASSES, _KIBIBYTES, _LANES = 2, 19 * 1024, 1
_STEP: Final = 30
_CODES: Final = 10
_COMMON: Final = frozenset(
    """
    password password1 password12 password123 password1234 password12345 password123456 passw0rd passw0rd123 passw0rd1234 p@ssw0rd1234
    123456789 1234567890 12345678901 123456789012 1234567890123 12345678901234 123456789101112 0123456789 012345678910 098765432109 987654321098
    qwertyuiop qwertyuiop12 qwertyuiop123 qwertyuiop1234 qwerty123456 qwerty1234567 qwertyuiopasdf qwertyuiopas qwertyuiopasdfghjkl 1q2w3e4r5t6y
    1q2w3e4r5t6y7u8i 1qaz2wsx3edc 1qaz2wsx3edc4rfv qazwsxedcrfv zaq12wsxcde3 asdfghjkl123 asdfghjkl1234 zxcvbnm12345 abcdefghijkl abcdefghijklm
    abcdefgh1234 abc123456789 abcd12345678 abcdef123456 a1b2c3d4e5f6 letmein12345 letmein123456 welcome12345 welcome123456 welcome2024! welcome2025!
    welcome2026! iloveyou1234 iloveyou12345 administrator administrator1 admin1234567 admin12345678 adminadmin12 adminadminadmin changeme1234
    changeme12345 changemenow! changemechangeme defaultpassword temporary123 temppassword correcthorsebatterystaple
    monkey123456 dragon123456 football1234 baseball1234 superman1234 sunshine1234 princess1234 trustno1trustno1 passwordpassword secretsecret
    secret123456 secretpassword mysecretpassword mypassword12 mypassword123 hospital1234 hospital12345 doctor123456 medical12345
    """.split()  # noqa: SIM905  (words for people)
)


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher, Type  # noqa: PLC0415  (composing the server needs no cryptography)

    return PasswordHasher(time_cost=_PASSES, memory_cost=_KIBIBYTES, parallelism=_LANES, type=Type.ID)


@cache
def _nobodys() -> str:
    """The hash of a password that nobody knows."""
    return _hasher().hash(secrets.token_urlsafe(32))


def hash_password(password: str) -> str:
    """What is kept of a password. Takes 20 ms and 19 MiB: not on an event loop."""
    return _hasher().hash(_folded(password))


def matches(user: User | None, password: str) -> bool:
    """Whether it is the user's password; as slow for nobody, and for a user without one. Not on an event loop."""
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415

    kept = user.password if user is not None and user.password else ""
    try:
        _hasher().verify(kept or _nobodys(), _folded(password[:LONGEST]))
    except (VerificationError, InvalidHashError):
        return False
    return bool(kept) and len(password) <= LONGEST


def outdated(kept: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher().check_needs_rehash(kept)


def password_fault(password: str, name: str, least: int) -> str | None:
    """Why a person must not choose this password; None when it is well. `least`: characters it must have."""
    folded = _folded(password).casefold()
    if len(folded) < least:
        return f"a password must have at least {least} characters"
    if len(password) > LONGEST:
        return f"a password must have at most {LONGEST} characters"
    if folded == name.casefold() or (len(name) > 3 and folded.replace(name.casefold(), "") in _endings(folded)):  # noqa: PLR2004
        return "a password must not be made of the user name"
    if folded in _COMMON or len(set(folded)) < 4:  # noqa: PLR2004  (aaaaaaaaaaaa, abababababab)
        return "this password is among those that are tried first; choose another"
    return None


def _endings(folded: str) -> set[str]:
    """What may be left of a password when the user name is taken out, and yet make it no password: nothing, or digits."""
    digits = "".join(letter for letter in folded if letter.isdigit())
    return {"", digits, f"{digits}!", f"-{digits}", f"_{digits}"}


def generated_password() -> str:
    """A password of 100 random bits that can be read aloud: five groups of four letters and digits."""
    text = base64.b32encode(secrets.token_bytes(13)).decode().lower()[:20]
    return "-".join(text[place : place + 4] for place in range(0, 20, 4))


def totp_secret() -> str:
    """A new secret of a second factor, base32."""
    import pyotp  # noqa: PLC0415

    return pyotp.random_base32()


def totp_uri(secret: str, name: str, issuer: str) -> str:
    """The secret as authenticator apps read it."""
    import pyotp  # noqa: PLC0415

    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=issuer)


def use_totp(store: AuthStore, user: User, code: str, now: int) -> bool:
    """Whether the code is the user's of this step, the one before or the one after, and was not used yet; it is used now."""
    import pyotp  # noqa: PLC0415

    if not user.totp or not (code.isascii() and code.isdigit()):
        return False
    factor, step = pyotp.TOTP(user.totp), now // _STEP
    for near in (step - 1, step, step + 1):
        if hmac.compare_digest(factor.generate_otp(near), code):
            return store.use_once("totp", f"{user.name.casefold()}:{near}", (near + 3) * _STEP)
    return False


def recovery_codes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ten codes of 80 bits for their owner, and what is kept of them (`User.recovery`)."""
    codes = tuple(_recovery_code() for _ in range(_CODES))
    return codes, tuple(hashed(_plain(code)) for code in codes)


def use_recovery(store: AuthStore, user: User, code: str, now: int) -> bool:
    """Whether it is one of the user's recovery codes, not used yet; it is used now."""
    kept = hashed(_plain(code))
    if not any(hmac.compare_digest(kept, one) for one in user.recovery):
        return False
    return store.use_once("recovery", f"{user.name.casefold()}:{kept}", now + 100 * 365 * 86400)


def _recovery_code() -> str:
    text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return "-".join(text[place : place + 4] for place in range(0, 16, 4))


def _plain(code: str) -> str:
    return "".join(letter for letter in code.casefold() if letter.isalnum())


def _folded(password: str) -> str:
    return unicodedata.normalize("NFKC", password)
