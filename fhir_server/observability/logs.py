"""Logs: one event per line on stderr, JSON unless a person watches, never with the content of a resource or a search value in it.

Rules.
1. An exception is told by its type and the places it passed, not by its message, which may quote a record. The operating system's and
   SQLite's own messages name files and tables alone, so these are shown.
2. What libraries log (uvicorn, asyncio) is told by its template up to the first object in it; the values it would be filled with stay out.
3. Requests are logged by `http/access_log.py`, under the same names: level, timestamp, process, event.
"""

import logging
import re
import sqlite3
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

Format = Literal["auto", "json", "text"]
"""`auto`: text on a terminal, JSON elsewhere."""

_MOST_FRAMES = 12
_OBJECT = re.compile(r"[<\n]|: ?\{|\(\)")


def as_text(wanted: Format) -> bool:
    """Whether logs are for people, not for programs."""
    return sys.stderr.isatty() if wanted == "auto" else wanted == "text"


def configure_logging(level: str, wanted: Format = "auto") -> None:
    """Send all logs of this process to stderr. `level`: debug, info, warning or error. `process` is bound by who forks."""
    renderer: Any = structlog.processors.JSONRenderer()
    if as_text(wanted):
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        explain_exception,
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Foreign([*shared, renderer]))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))


def places(error: BaseException) -> list[str]:
    """Where an exception came by: file, line and function, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames][-_MOST_FRAMES:]


def explain_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put type and places of the exception in the place of `exc_info`."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()[1]
    elif isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["type"] = type(given).__name__
        event["frames"] = places(given)
        if isinstance(given, OSError):
            event["reason"] = given.strerror
        elif isinstance(given, sqlite3.OperationalError):
            event["reason"] = str(given)
    return event


class _Foreign(logging.Formatter):
    """A record of a library, rendered like our own events."""

    def __init__(self, processors: list[Any]) -> None:
        super().__init__()
        self._processors = processors

    def format(self, record: logging.LogRecord) -> str:
        text = _OBJECT.split(str(record.msg), maxsplit=1)[0].strip()
        event: Any = {"event": text, "logger": record.name, "exc_info": record.exc_info}
        for processor in self._processors:
            event = processor(None, record.levelname.lower(), event)
        return str(event)
