"""A browser without a screen for the pages: cookies, forms as they were sent, redirects one at a time."""

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx2

from smart_auth import passwords
from smart_auth.model import Client, LaunchContext, Pending, User
from smart_auth.options import SmartOptions
from smart_auth.parts import AuthParts

PASSWORD = "seven green umbrellas"
BACK = "https://app.example.org/back"
SCOPE = "launch/patient openid fhirUser offline_access patient/*.rs"


@dataclass
class Clock:
    """The time of a test."""

    now: int = 1_800_000_000

    def __call__(self) -> int:
        return self.now


@dataclass
class Patients:
    """A directory of made-up patients; `own` are those of people who are no staff."""

    known: dict[str, str] = field(
        default_factory=lambda: {"p1": "Ana Nuñez, 1990-02-03", "p2": "Bo <b>Berg</b>", "p3": "Cy"}
    )
    own: dict[str, list[str]] = field(default_factory=dict)

    async def exists(self, reference, asker):
        return reference.removeprefix("Patient/") in self.known

    async def patients(self, user, search):
        if user.name in self.own:
            return [(name, self.known[name]) for name in self.own[user.name]]
        wanted = search.casefold()
        return [
            (name, text) for name, text in self.known.items() if name == search or text.casefold().startswith(wanted)
        ]


def composed(store, clock, public="https://fhir.example.org", **options) -> AuthParts:
    """Parts over a store; no tokens, which the pages do not use."""
    return AuthParts(store, None, SmartOptions(**options), Patients(), public, f"{public}/fhir", clock)


_HASH = []


def person(store, name="jane", **fields) -> User:
    """A user with the password of the tests."""
    if not _HASH:
        _HASH.append(passwords.hash_password(PASSWORD))
    user = replace(User(name, ("doctor",), _HASH[0], fhir_user="Practitioner/d1"), **fields)
    store.put_user(user)
    return user


def app(store, **fields) -> Client:
    """A registered app."""
    client = replace(Client("app", "Growth Chart", "public", redirect_uris=(BACK,)), **fields)
    store.put_client(client)
    return client


def request(store, clock, tx="tx-1", *, context=None, user="", **parameters) -> str:
    """An authorization request under way; its tx."""
    values = {
        "client_id": "app", "redirect_uri": BACK, "scope": SCOPE, "state": "s1", "response_type": "code",
        "code_challenge": "x" * 43, "code_challenge_method": "S256",
    }  # fmt: skip
    values |= parameters
    store.put_pending(tx, Pending(values, clock() + 900, context=context or LaunchContext(), user=user))
    return tx


class Page(HTMLParser):
    """A page as read: its name, errors, forms."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__()
        self.answer = answer
        self.status = answer.status_code
        self.name = ""
        self.errors: list[str] = []
        self.forms: list[dict] = []
        self.feed(answer.text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "body":
            self.name = given.get("data-page", "")
        if "data-error" in given:
            self.errors.append(given["data-error"])
        if tag == "form":
            self.forms.append({"attrs": given, "fields": [], "boxes": {}, "radios": [], "buttons": []})
        if tag == "input" and self.forms:
            form, name, value = self.forms[-1], given.get("name"), given.get("value", "")
            if given.get("type") == "checkbox":
                form["boxes"][value] = "checked" in given
            elif given.get("type") == "radio":
                form["radios"].append(value)
            else:
                form["fields"].append((name, value))
        if tag == "button" and self.forms:
            self.forms[-1]["buttons"].append((given.get("name"), given.get("value")))

    @property
    def form(self) -> dict:
        """The last form of the page."""
        return self.forms[-1]

    def filled(self, **values) -> list[tuple[str, str]]:
        """The fields of the last form as a browser sends them, some with other values."""
        kept = [(name, value) for name, value in self.form["fields"] if name not in values]
        ticked = [("scope", scope) for scope, on in self.form["boxes"].items() if on and "scope" not in values]
        given = [
            (name, one) for name, value in values.items() for one in (value if isinstance(value, list) else [value])
        ]
        return [*kept, *ticked, *given]


class Browser:
    """Follows nothing by itself; keeps cookies."""

    def __init__(self, application, public="https://fhir.example.org", **options) -> None:
        transport = httpx2.ASGITransport(app=application, **options)
        self.client = httpx2.AsyncClient(transport=transport, base_url=public)
        self.at = public

    async def get(self, path: str) -> httpx2.Response:
        self.at = urljoin(self.at, path)
        return await self.client.get(self.at)

    async def page(self, path: str) -> Page:
        """The page at the end of redirects on this server."""
        return await self.follow(await self.get(path))

    async def follow(self, answer: httpx2.Response) -> Page:
        while answer.status_code == 303 and urlsplit(urljoin(self.at, answer.headers["location"])).path.startswith(
            "/auth/"
        ):
            answer = await self.get(answer.headers["location"])
        return Page(answer)

    async def post(self, page: Page, *, to: str = "", **values) -> httpx2.Response:
        """Send the last form of a page."""
        self.at = urljoin(self.at, to or page.form["attrs"]["action"])
        body = urlencode(page.filled(**values))
        return await self.client.post(
            self.at, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )

    async def send(self, page: Page, **values) -> Page:
        """Send the last form and follow."""
        return await self.follow(await self.post(page, **values))

    async def sign_in(self, tx: str = "", name: str = "jane", password: str = PASSWORD) -> Page:
        page = await self.page(f"/auth/login?tx={tx}" if tx else "/auth/login")
        assert page.name == "login"
        return await self.send(page, username=name, password=password, action="login")


def landed(page: Page) -> dict[str, str]:
    """The parameters the app was sent back with."""
    assert page.status == 303, page.answer.text
    location = page.answer.headers["location"]
    assert location.startswith(BACK), location
    return dict(parse_qsl(urlsplit(location).query))
