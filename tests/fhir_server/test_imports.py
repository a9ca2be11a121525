"""What the server imports decides how fast it starts and how much memory each worker has."""

import json
import subprocess
import sys

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
    "antlr4",
)
PROGRAM = f"""
import json, sys
from fhir_server.settings import load_settings
from fhir_server.app import create_app
create_app(load_settings({{}}).settings)
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


def test_composing_the_application_leaves_heavy_libraries_unimported():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
