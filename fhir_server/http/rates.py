"""How many requests a second anybody may send: users and clients by their token, everybody else by address.

Rules.
1. A rate may be exceeded for a while: who was quiet may send `burst` seconds' worth at once (the generic cell rate algorithm: one number per subject).
2. Each process counts for itself and allows its share, the rate divided by the number of serving processes.
3. Refused is answered 429, with Retry-After, before anything is looked up. Requests to `/auth/...` and those whose token was no good count for their
   address; addresses of one IPv6 network of 64 bits are one.
4. Tokens made on the command line for an operator are not limited.

Specification: https://www.rfc-editor.org/rfc/rfc6585#section-4, https://www.itu.int/rec/T-REC-I.371 (GCRA)
"""

import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_server.http.middleware import send_error
from fhir_server.http.options import RateOptions
from resources.errors import FhirError
from smart_auth.attempts import address_subject

PAGES = "/auth/"
_KEPT = 50_000
"""So many subjects are remembered; then those who are quiet are forgotten."""
_UNAUTHORIZED = 401


class Rate:
    """`per_second` requests in the long run, `burst` seconds' worth at once; `per_second` 0: no limit."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._tolerance = max(0.0, burst - self._interval)
        self._due: dict[str, float] = {}

    def wait(self, subject: str, now: float) -> float:
        """Count a request: 0 when it is within the rate, else the seconds to wait (it does not count then)."""
        if not self._interval:
            return 0.0
        late = self.late(subject, now)
        if not late:
            self.count(subject, now)
        return late

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was counted yet, so that nobody has to wait."""
        return not self._due

    def late(self, subject: str, now: float) -> float:
        """The seconds that the subject has to wait before another request."""
        late = self._due.get(subject, 0.0) - self._tolerance - now
        return late if late > 0 else 0.0

    def count(self, subject: str, now: float) -> None:
        """Count a request that was let in."""
        if not self._interval:
            return
        if len(self._due) >= _KEPT:
            self._due = {name: due for name, due in self._due.items() if due > now}
        self._due[subject] = max(self._due.get(subject, 0.0), now) + self._interval


class Rates:
    """The rates of one of `processes` serving processes; `address` tells where a request is from."""

    def __init__(
        self,
        options: RateOptions,
        processes: int,
        address: Callable[[Scope], str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        def share(rate: float) -> Rate:
            return Rate(rate / processes, options.burst)

        self._users, self._clients = share(options.user), share(options.client)
        self._pages, self._failures = share(options.auth), share(options.failures)
        self._address = address
        self._now = now

    def admit(self, scope: Scope) -> None:
        """Count a request with a good token (`principal` in the scope). Raises FhirError 429."""
        principal = scope.get("principal")
        if principal is None or principal.operator:
            return
        now = self._now()
        if principal.user and (late := self._users.wait(principal.user, now)):
            raise _too_many("this user", late)
        if principal.client and (late := self._clients.wait(principal.client, now)):
            raise _too_many("this client", late)

    def at_the_door(self, scope: Scope, prefix: str) -> FhirError | None:
        """Why a request is refused for where it is from."""
        path: str = scope["path"]
        if path.startswith(PAGES):
            late = self._pages.wait(address_subject(self._address(scope)), self._now())
        elif path.startswith(prefix) and not self._failures.is_quiet:
            late = self._failures.late(address_subject(self._address(scope)), self._now())
        else:
            return None
        return _too_many("this address", late) if late else None

    def refused(self, scope: Scope) -> None:
        """A request whose token was no good was answered."""
        self._failures.count(address_subject(self._address(scope)), self._now())


def limited(app: ASGIApp, rates: Rates | None, prefix: str) -> ASGIApp:
    """Hold addresses to their rates; `rates` None (authorization is off): nobody is limited. Goes inside `observed`, which notes the status."""
    if rates is None:
        return app

    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = rates.at_the_door(scope, prefix)
        if refusal is not None:
            await send_error(refusal, scope, send)
            return

        await app(scope, receive, send)
        if scope.get("status") == _UNAUTHORIZED:
            rates.refused(scope)

    return layer


def _too_many(who: str, late: float) -> FhirError:
    seconds = math.ceil(late)
    said = f"{who} sends more requests than this server takes from one; try again in {seconds} s"
    return FhirError(429, "throttled", said, headers={"Retry-After": str(seconds)})
