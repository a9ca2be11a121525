"""The HTTP ceiling: `python -m fhir_server.benchmark.ceiling WORKERS BYTES` answers stored bytes through the server's own stack."""

import sys

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from fhir_server.family import Child, listen, run_family
from fhir_server.settings import Settings
from fhir_server.worker import serve_application


def application(size: int) -> FastAPI:
    """An application whose only route answers `size` bytes that it holds."""
    body = b"x" * size

    async def stored(_request: Request) -> Response:
        return Response(body, media_type="application/fhir+json")

    app = FastAPI(openapi_url=None)
    app.add_route("/stored", stored)
    return app


if __name__ == "__main__":
    listener = listen("127.0.0.1", 0)
    work = serve_application(application(int(sys.argv[2])), listener, Settings())
    sys.exit(run_family([Child(f"worker-{n}", work) for n in range(int(sys.argv[1]))], listener, Settings()))
