"""Logs on standard error: one JSON object per line, or lines for people."""

from __future__ import annotations

import asyncio
import logging.config
import sys
from collections.abc import Iterator
from itertools import islice
from traceback import format_tb

import structlog

from config.sections import LogSettings

# uvicorn and the clients of HTTP log URLs at INFO, whole requests at DEBUG. Tokens may be in both, so of these no more
# than warnings are written, at any level.
QUIET = ("uvicorn.error", "uvicorn.access", "websockets", "httpx", "httpcore", "urllib3", "asyncio")

MOST_CAUSES = 8
"""Exceptions of a chain that are shown: it can be a circle."""


def configure_logging(settings: LogSettings) -> None:
    """Send everything that is logged with the standard library's `logging` to standard error.

    `logger.info("connection closed", extra={"code": 3008})` gives the field `code` beside `event`, `level`, `logger`
    and `timestamp` (ISO 8601, UTC). Tracebacks are text without local variables, which may hold secrets; those that
    servers and libraries log are of exceptions that nobody foresaw, whose own text may hold some as well: of these the
    types alone are written, and the lines they came from. Logging is
    global to the process: the program calls this once, at start; an application that embeds the gateway does not.
    """
    shared = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_texts,
    ]
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(settings)],
                }
            },
            "filters": {"not_cancelled": {"()": lambda: _not_cancelled}},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stderr",
                    "formatter": "structured",
                    "filters": ["not_cancelled"],
                }
            },
            "root": {"level": settings.level, "handlers": ["stderr"]},
            "loggers": {
                name: {"level": max("WARNING", settings.level, key=logging.getLevelNamesMapping().__getitem__)}
                for name in QUIET
            },
        }
    )


def _renderers(settings: LogSettings) -> list[structlog.types.Processor]:
    if settings.format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [
        structlog.processors.format_exc_info,
        _on_one_line,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
    ]


def _not_cancelled(record: logging.LogRecord) -> bool:
    """Keep out what uvicorn takes for errors of the application: requests that end with the process."""
    return not (record.name == "uvicorn.error" and record.exc_info and record.exc_info[0] is asyncio.CancelledError)


def _without_texts(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Take the texts of exceptions out of what servers and libraries log of them."""
    error = (event.get("exc_info") or (None, None))[1]
    if event["logger"] not in QUIET or error is None:
        return event
    del event["exc_info"]
    # Further lines, and what a callback was called with, come from asyncio: they show objects, and with them payloads.
    line = str(event["event"]).partition("\n")[0]
    event["event"] = line.partition("(")[0] if line.startswith("Exception in callback") else line
    event["exception"] = "\n".join(reversed([_outline(each) for each in islice(_causes(error), MOST_CAUSES)]))
    return event


def _on_one_line(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Show what a terminal would obey, and what would look like a line of its own; JSON does that by itself."""
    for name, value in event.items():
        if name == "exception":  # has many, but none of them begins where those of the log do
            event[name] = "\n".join(f"    {_visible(line)}" for line in value.split("\n"))
        elif isinstance(value, str):
            event[name] = _visible(value)
    return event


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _outline(error: BaseException) -> str:
    grouped = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    names = ", ".join(type(each).__name__ for each in (error, *grouped))
    return f"{''.join(format_tb(error.__traceback__))}{names}"
