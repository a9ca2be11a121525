"""An independent client, requests-oauthlib, against real sockets and the real pages: launch, refresh, revocation."""

import socket
import threading
from urllib.parse import urljoin

import pytest
import requests
import uvicorn
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session
from starlette.applications import Starlette

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth.model import hashed
from smart_auth.oauth.endpoints import routes
from smart_auth.pages.routes import routes as page_routes
from tests.smart_auth.apps import BACK, SCOPE, SECRET, World
from tests.smart_auth.browsing import PASSWORD, Page, person


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A world behind a real port of this machine."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # http to this machine
    store = SqliteAuthStore.open(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = World(store, public=f"http://localhost:{listening.getsockname()[1]}")
        person(store)
        application = Starlette(routes=[*routes(made.parts), *page_routes(made.parts)])
        server = uvicorn.Server(uvicorn.Config(application, log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield made
        server.should_exit = True
        thread.join(10)
    store.close()


def through_the_pages(url: str) -> str:
    """Where the person's browser is sent at the end: signed in, patient chosen, approved."""
    with requests.Session() as browser:
        answer = browser.get(url, allow_redirects=False)
        for _ in range(12):
            if answer.status_code == 303:
                target = urljoin(answer.url, answer.headers["Location"])
                if not target.startswith(url.partition("/auth/")[0]):
                    return target
                answer = browser.get(target, allow_redirects=False)
                continue
            page = Page(answer)
            given = {
                "login": {"username": "jane", "password": PASSWORD, "action": "login"},
                "patient": {"patient": "p1", "action": "select"},
                "consent": {"action": "approve"},
            }[page.name]
            answer = browser.post(answer.url, data=page.filled(**given), allow_redirects=False)
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("kind", ["public", "symmetric"])
def test_requests_oauthlib_launches_refreshes_and_revokes(world, kind):
    world.client("theirs", kind, secret=hashed(SECRET) if kind == "symmetric" else "")
    found = requests.get(f"{world.public}/fhir/.well-known/smart-configuration", timeout=10).json()
    app = OAuth2Session("theirs", redirect_uri=BACK, scope=SCOPE.split(), pkce="S256")
    url, state = app.authorization_url(found["authorization_endpoint"], aud=f"{world.public}/fhir")
    back = through_the_pages(url)
    assert f"state={state}" in back
    how = {"auth": HTTPBasicAuth("theirs", SECRET)} if kind == "symmetric" else {"include_client_id": True}
    token = app.fetch_token(found["token_endpoint"], authorization_response=back, **how)
    assert token["patient"] == "p1"
    told = app.get(f"{world.public}/auth/userinfo").json()
    assert told["fhirUser"] == f"{world.public}/fhir/Practitioner/d1"
    again = app.refresh_token(
        found["token_endpoint"], auth=how.get("auth"), client_id="theirs" if kind == "public" else None
    )
    assert again["refresh_token"] != token["refresh_token"]
    assert again["scope"] == token["scope"]
    answer = requests.post(
        found["revocation_endpoint"],
        data={"token": again["refresh_token"]} | ({"client_id": "theirs"} if kind == "public" else {}),
        auth=how.get("auth"),
        timeout=10,
    )
    assert answer.status_code == 200
    world.clock.now += 1
    assert app.get(f"{world.public}/auth/userinfo").status_code == 401
