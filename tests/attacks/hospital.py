"""The hospital of the leak suite as attackers meet it: asked by one of its people, by name."""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth.model import Grant
from tests.leaks.people import PEOPLE
from tests.leaks.worlds import BASE, FHIR, House, token


@dataclass
class Hospital:
    """`ask` is answered to one of the people of `tests.leaks.people`, by name."""

    house: House
    folder: Path
    tokens: dict[str, str]

    def token(self, who: str) -> str:
        """The access token of a person."""
        if who not in self.tokens:
            self.tokens[who] = token(self.folder, next(one for one in PEOPLE if one.name == who))
        return self.tokens[who]

    def granted(self, scope: str, like: str, patient: str | None = None) -> str:
        """The name of the same person with a token of another scope, and of another patient in context."""
        person = next(one for one in PEOPLE if one.name == like)
        patient = person.patient if patient is None else patient
        person = replace(person, name=f"{like} {scope} {patient}", scope=scope, patient=patient)
        if person.name not in self.tokens:
            with closing(SqliteAuthStore.open(self.folder)) as store:
                name = person.user.name if person.user else ""
                store.add_grant(Grant(f"grant-{person.name}", person.client.id, scope, int(time.time()), user=name))
            self.tokens[person.name] = token(self.folder, person)
        return person.name

    def revoke(self, who: str) -> None:
        """End what the person has allowed."""
        with closing(SqliteAuthStore.open(self.folder)) as store:
            store.revoke([f"grant-{who}"])

    async def ask(self, who: str, method: str, path: str, body: str | bytes | None = None, **headers: str):
        """The answer; header names are given with _ for -."""
        sent = {"Authorization": f"Bearer {self.token(who)}", **(FHIR if body else {})}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{BASE}/{path}" if path else BASE
        return await self.house.http.request(method, url, content=body, headers=sent)

    async def raw(self, who: str, method: str, target: str) -> tuple[int, str]:
        """Status and body of a request whose target is sent as it is; nobody's for ""."""
        path, _, query = target.partition("?")
        headers = [(b"host", b"localhost:8000")]
        if who:
            headers.append((b"authorization", f"Bearer {self.token(who)}".encode()))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": f"/fhir/{unquote(path)}", "raw_path": f"/fhir/{path}".encode(), "query_string": query.encode(),
            "root_path": "", "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 8000), "state": {},
        }  # fmt: skip
        sent = []

        async def receive() -> dict:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict) -> None:
            sent.append(message)

        await self.house.app(scope, receive, send)
        return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode()
