"""The composition root: what it imports, what it serves, that everything is closed."""

import subprocess
import sys

import pytest

from fhir_server.app import create_app
from fhir_server.settings import Settings

HEAVY = (
    "fpdf",
    "graphql",
    "ucumvert",
    "pint",
    "webauthn",
    "redis",
    "celery",
    "pymongo",
    "fhir.resources",
    "fhirpathpy",
    "lxml",
)


def test_composing_imports_nothing_heavy():
    code = (
        "import sys; from fhir_server.app import create_app; from fhir_server.settings import Settings; "
        "create_app(Settings(auth='off')); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert [name for name in HEAVY if name in loaded] == []


def test_layers_stand_in_reading_order(tmp_path):
    app = create_app(Settings(auth="off", data_dir=tmp_path))
    names = [layer.cls.__name__ for layer in app.layers]
    assert names == [
        "request_id",
        "observed",
        "secured",
        "cors",
        "limited",
        "audited",
        "admission",
        "body_limit",
        "gzip",
        "beside",
        "below",
    ]


@pytest.mark.anyio
async def test_the_store_lives_as_long_as_the_application_serves(tmp_path):
    app = create_app(Settings(auth="off", data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []
    async with app.router.lifespan_context(app):
        assert any(path.suffix == ".sqlite" for path in tmp_path.iterdir())
    async with app.router.lifespan_context(app):
        assert app.state.service.base == "http://localhost:8000/fhir"


@pytest.fixture
def anyio_backend():
    return "asyncio"
