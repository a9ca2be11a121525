"""A web server of this machine that answers all requests alike and counts who comes: for what must, or must not, be fetched."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Listener:
    """`url` is its address; `paths` what was asked for; `answer` writes each answer."""

    url: str
    answer: Callable[[BaseHTTPRequestHandler], None]
    paths: list[str] = field(default_factory=list)


def said(
    body: bytes, status: int = 200, kind: str = "application/json", **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer with this body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


@contextmanager
def listening(answer: Callable[[BaseHTTPRequestHandler], None] | None = None) -> Iterator[Listener]:
    """A listener while the block runs."""
    made = Listener("", answer or said(b"{}"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.paths.append(self.path)
            try:
                made.answer(self)
            except OSError:  # the client went away
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
