"""OAuth 2.0 and OpenID Connect: the endpoints that are not pages (`endpoints.routes`), and what the pages call (`authorization`)."""

OPEN = ("/auth/token", "/auth/revoke", "/auth/userinfo", "/auth/jwks", "/auth/smart-style.json", "/.well-known/")
"""Where paths begin that scripts of any origin may call, without credentials; the pages and what changes registrations are not."""
