"""The token endpoint: Authlib's authorization server over our requests, answers, clients and grant types.

Rules. It is called in a worker thread with a request that was read already. Errors of Authlib are rendered by `answers.refused`, as ours are.

Specification: https://www.rfc-editor.org/rfc/rfc6749#section-3.2
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from starlette.responses import Response

from smart_auth.oauth.answers import answered, fault, refused
from smart_auth.oauth.authentication import Authentication, MachineRequest
from smart_auth.oauth.grants import Challenge, CodeGrant, RefreshGrant, Registered, ServiceGrant, end
from smart_auth.parts import AuthParts

if TYPE_CHECKING:
    from smart_auth.model import Grant


class TokenRequest(OAuth2Request):  # type: ignore[misc]
    """A request to the token endpoint, as Authlib looks at it."""

    def __init__(self, machine: MachineRequest) -> None:
        super().__init__(
            "POST", "https://authorization-server/token"
        )  # Authlib wants to see https; the server has its own rule
        self.machine = machine
        self.spent: Grant | None = None
        """The grant whose code was used up by this request; it must not outlive a failure."""
        self.payload = BasicOAuth2Payload(dict(machine.form))

    def about(self, grant: "Grant") -> None:
        """Tell the audit which grant it is about."""
        self.machine.audit["note"] = self.machine.form["grant_type"]
        if grant.user:
            self.machine.audit["user"] = grant.user
        if grant.context.patient:
            self.machine.audit["keys"] = f"Patient/{grant.context.patient}"

    @property
    def form(self) -> Mapping[str, str]:
        """The parameters."""
        return self.machine.form


class TokenEndpoint(AuthorizationServer):  # type: ignore[misc]
    """Call `answer`."""

    def __init__(self, parts: AuthParts, authentication: Authentication) -> None:
        super().__init__()
        self.parts = parts
        self._authentication = authentication
        self.register_grant(CodeGrant, [Challenge(required=True)])
        self.register_grant(RefreshGrant)
        self.register_grant(ServiceGrant)

    def answer(self, machine: MachineRequest) -> Response:
        """The token response, or the error of the protocol. Raises OAuth2Error when it cannot tell what is asked."""
        if "grant_type" not in machine.form:
            raise fault("invalid_request", "grant_type is missing")
        response: Response = self.create_token_response(machine)
        return response

    def authenticate_client(
        self, request: TokenRequest, _methods: Sequence[str], _endpoint: str = "token"
    ) -> Registered:
        """The client of the request. Raises OAuth2Error."""
        client, request.auth_method = self._authentication(request.machine)
        return Registered(client)

    def create_oauth2_request(self, request: MachineRequest) -> TokenRequest:
        """The request as Authlib looks at it."""
        return TokenRequest(request)

    def save_token(self, token: Mapping[str, Any], request: TokenRequest) -> None:
        """Nothing: what is kept was kept when the token was made."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Mapping[str, Any], _headers: Any) -> Response:
        """A token response."""
        return answered(body, status)

    def handle_error_response(self, request: TokenRequest, error: OAuth2Error) -> Response:
        """An error."""
        request.machine.audit["note"] = error.error
        if request.spent is not None:
            end(self.parts, request.spent)
        return refused(error)
