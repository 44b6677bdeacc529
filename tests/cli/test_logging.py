"""What a log line looks like, and what never is in one."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from datetime import datetime

import httpx
import pytest

from app import create_app
from app.logging import QUIET, configure_logging
from app.testing import gateway_container, serve
from config.sections import LogSettings

pytestmark = pytest.mark.usefixtures("restored_logging")


def test_json_has_one_object_per_line_with_fields(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"))
    logging.getLogger("app.test").info("line one\nline two", extra={"code": 3008})
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    entry = json.loads(line)
    assert datetime.fromisoformat(entry.pop("timestamp")).tzinfo is not None
    assert (out, entry) == (
        "",
        {"event": "line one\nline two", "level": "info", "logger": "app.test", "code": 3008},
    )


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_has_no_local_variables(style: str, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings.model_validate({"format": style}))
    secret = "2retnuh"[::-1]  # The line itself is in the traceback.
    try:
        raise ValueError(f"without {len(secret)}")
    except ValueError:
        logging.getLogger("app.test").exception("failed")
    err = capfd.readouterr().err
    assert "ValueError: without 7" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("style", ["json", "console"])
async def test_what_an_unforeseen_exception_says_reaches_no_log_but_where_it_came_from_does(
    style: str, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogSettings.model_validate({"format": style}))
    app = create_app(gateway_container())

    @app.get("/boom/{text}")
    async def boom(text: str) -> None:
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ExceptionGroup(text, [ValueError(text)]) from error

    async with serve(app) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/boom/hunter2")).status_code == 500
    err = capfd.readouterr().err
    assert "hunter2" not in err
    for told in ("Exception in ASGI application", "KeyError", "ExceptionGroup, ValueError", "in boom", "test_logging"):
        assert told in err


def test_an_exception_in_a_callback_or_a_task_shows_no_object(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"))

    def callback(payload: str) -> None:
        raise ValueError(payload)

    async def main() -> None:
        async def forgotten(payload: str) -> None:
            raise ValueError(payload)

        asyncio.get_running_loop().call_soon(callback, "hunter2")
        task = asyncio.create_task(forgotten("hunter2"))
        await asyncio.wait([task])

    asyncio.run(main())
    gc.collect()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert "hunter2" not in str(lines)
    in_callback, in_task = lines
    assert in_callback["event"].startswith("Exception in callback ")
    assert in_task["event"] == "Task exception was never retrieved"
    assert in_callback["exception"].splitlines()[-1] == in_task["exception"].splitlines()[-1] == "ValueError"


def test_a_circle_of_exceptions_is_shown_once_around(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"))
    first, second = ValueError("hunter2"), TypeError("hunter2")
    first.__cause__, second.__cause__ = second, first
    logging.getLogger("uvicorn.error").error("failed", exc_info=first)
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["exception"].splitlines()[-2:] == ["TypeError", "ValueError"]


FORGED = "x\n2026-11-23 [error] forged \x1b[31m\r\x9b2J\u2028\u202e\x7f\ud800"


def test_no_text_makes_a_line_of_its_own_or_moves_the_cursor(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="console"))
    logger = logging.getLogger("app.test")
    logger.warning("refused: %s", FORGED, extra={"key": FORGED, "keys": [FORGED]})
    assert len(capfd.readouterr().err.splitlines()) == 1
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("failed")
    logger.warning("naïve – 日本", extra={"user": "zoë"})
    err = capfd.readouterr().err
    assert "naïve – 日本" in err
    assert "zoë" in err
    assert err.replace("\n", "").isprintable()
    assert "\\x1b[31m" in err
    assert [line.split()[-1] for line in err.splitlines() if not line.startswith("    ")] == ["[app.test]", "user=zoë"]


def test_console_lines_are_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="console"))
    logging.getLogger("app.test").warning("slow", extra={"code": 3008})
    err = capfd.readouterr().err
    assert "slow" in err
    assert "3008" in err
    assert not err.startswith("{")


@pytest.mark.parametrize("terminal", [True, False])
def test_console_lines_have_colours_on_a_terminal_alone(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr("sys.stderr", stream := Stream())
    configure_logging(LogSettings(format="console"))
    logging.getLogger("app.test").warning("slow")
    assert ("\x1b[" in stream.getvalue()) is terminal


def test_a_request_that_ends_with_the_process_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"))
    for name, error in (("uvicorn.error", asyncio.CancelledError), ("uvicorn.error", OSError), ("app.test", TypeError)):
        try:
            raise error
        except BaseException:  # uvicorn does
            logging.getLogger(name).exception("failed")
    assert [json.loads(line)["exception"].split()[-1] for line in capfd.readouterr().err.splitlines()] == [
        "OSError",
        "TypeError",
    ]


@pytest.mark.parametrize(("level", "written"), [("DEBUG", 3), ("INFO", 2), ("WARNING", 1), ("ERROR", 0)])
def test_the_level_decides_what_is_written(level: str, written: int, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings.model_validate({"level": level}))
    logger = logging.getLogger("app.test")
    logger.debug("one")
    logger.info("two")
    logger.warning("three")
    assert len(capfd.readouterr().err.splitlines()) == written


@pytest.mark.parametrize("name", QUIET)
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "ERROR"])
def test_libraries_that_log_urls_write_nothing_below_a_warning(
    name: str, level: str, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogSettings.model_validate({"level": level}))
    logging.getLogger(name).info("GET /?token=hunter2")
    assert capfd.readouterr().err == ""
    logging.getLogger(name).warning("told")
    assert ("told" in capfd.readouterr().err) is (level != "ERROR")
