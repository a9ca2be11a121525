"""Options of authorization; the server's settings make them of `auth_...` (`FHIR_AUTH_LOGIN_LIMIT=5`)."""

from dataclasses import dataclass
from typing import Final

LONGEST_TOKEN: Final = 31 * 86400
"""Seconds that no access token outlives."""


@dataclass(frozen=True, slots=True)
class SmartOptions:
    """Times in seconds unless said.

    `access_seconds`: life of a user's access token; `backend_seconds`: of a backend service's; `refresh_days`: sliding life of an offline
    refresh token; `login_limit`: failed logins in a row before a subject waits; `idle_seconds` and `session_seconds`: of a session.
    """

    access_seconds: int = 3600
    backend_seconds: int = 300
    refresh_days: int = 90
    login_limit: int = 5
    idle_seconds: int = 1800
    session_seconds: int = 12 * 3600
    code_seconds: int = 60
    password_length: int = 12
    assigned_days_after: int = 30
    appointment_days_before: int = 90
    appointment_days_after: int = 7
    release_preliminary: bool = False
