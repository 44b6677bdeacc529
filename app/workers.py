"""Several processes that serve on one port, and the parent that keeps their number."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection

from app import create_app
from app.checks import build_container, find_container
from app.embedded import EmbeddedEngine
from app.listening import listen, listen_together, reserved
from app.logging import configure_logging
from app.server import StartError, run, welcome
from config import Settings

TICK_SECONDS = 0.1
RESTART_SECONDS = 1  # from the start of a worker to that of its replacement, at least
INSIST_SECONDS = 1  # from a second signal to SIGKILL
WORKER_GRACE = 0.9  # of the grace period; what is left is for the parent and the engine

logger = logging.getLogger(__name__)


def serve_workers(settings: Settings, container: str | None = None) -> None:
    """Serve with `settings.workers` processes until this one is told to stop.

    With `broker.url` memory:// they share an embedded Valkey. A worker that ends is replaced, and so is the Valkey.

    The first SIGTERM or SIGINT lets the workers drain, for as long as the grace period lasts; a second one ends them at
    once. If this process is killed, the Valkey ends, and the workers notice, drain and end.

    Args:
        settings: of the workers.
        container: what makes the container of each, as for `app.checks.find_container`.

    Raises:
        app.listening.ListenError: an address cannot be listened on.
        app.server.StartError: a worker did not start (the log says why), or the Valkey.
    """
    configure_logging(settings.log)
    if not hasattr(os, "setsid"):
        raise StartError("several workers need a POSIX system; elsewhere run several gateways of one worker")
    with _signals() as told, ExitStack() as stack:
        with reserved(settings.host, settings.port):
            listeners = _listeners(settings)
            stack.callback(_close, listeners)
            engine = EmbeddedEngine(settings.broker.max_bytes) if settings.broker.url.startswith("memory://") else None
            if engine is not None:
                stack.callback(engine.stop)
                engine.start()
                _tell_of_engine(settings)
            crew = Crew(settings, container, listeners, engine, told)
            stack.callback(crew.stop)
            crew.start()
        if not told:
            print(welcome(settings, listeners[0][0].getsockname()[1]), flush=True)
        while not told:
            crew.keep()
            if engine is not None:
                engine.keep()
            time.sleep(TICK_SECONDS)


class Worker:
    """A process that serves."""

    def __init__(self, settings: Settings, container: str | None, listeners: Sequence[socket.socket]) -> None:
        """Start it."""
        spawn = multiprocessing.get_context("spawn")  # a fork would share what every container has to have alone
        self._told, ready = spawn.Pipe(duplex=False)
        self._ready = False
        self.started = time.monotonic()
        self.process = spawn.Process(target=work, args=(settings, container, listeners, ready))
        self.process.start()
        ready.close()

    def ready(self) -> bool:
        """Whether it has listened."""
        if not self._ready and self._told.poll():
            with suppress(EOFError):
                self._ready = self._told.recv()
        return self._ready

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.process.exitcode is not None


class Crew:
    """All workers of a gateway.

    Args:
        settings: of the gateway.
        container: see `serve_workers`.
        listeners: those of each worker.
        engine: the Valkey to use instead of `broker.url`.
        told: the signals that came.
    """

    def __init__(
        self,
        settings: Settings,
        container: str | None,
        listeners: Sequence[Sequence[socket.socket]],
        engine: EmbeddedEngine | None,
        told: Sequence[int],
    ) -> None:
        """None runs yet."""
        self._settings = _of_a_worker(settings, engine)
        self._grace = settings.shutdown.grace_seconds
        self._container = container
        self._listeners = listeners
        self._told = told
        self._workers: list[Worker] = []

    def start(self) -> None:
        """Start all, and wait until they listen or a signal comes.

        Raises:
            StartError: one of them ended instead.
        """
        self._workers = [self._worker(number) for number in range(len(self._listeners))]
        while not self._told and not all(worker.ready() for worker in self._workers):
            if any(worker.ended() for worker in self._workers):
                raise StartError("a worker did not start; the log says why")
            time.sleep(TICK_SECONDS)

    def keep(self) -> None:
        """Replace those that ended."""
        for number, worker in enumerate(self._workers):
            if worker.ended() and time.monotonic() > worker.started + RESTART_SECONDS:
                logger.error("a worker ended and is replaced", extra={"exit_code": worker.process.exitcode})
                self._workers[number] = self._worker(number)

    def stop(self) -> None:
        """Let all end: in good order at first, at once if a second signal comes, by force when the time is over."""
        _close(self._listeners)  # or the system would take connections that nobody serves
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        insisted = False
        while not all(worker.ended() for worker in self._workers) and time.monotonic() < deadline:
            if len(self._told) > 1 and not insisted:
                insisted = True
                self._signal(signal.SIGTERM)
                deadline = min(deadline, time.monotonic() + INSIST_SECONDS)
            time.sleep(TICK_SECONDS)
        left = sum(not worker.ended() for worker in self._workers)
        if left:
            logger.warning("killed workers that did not end", extra={"workers": left})
        self._signal(signal.SIGKILL)
        for worker in self._workers:
            worker.process.join()

    def _worker(self, number: int) -> Worker:
        return Worker(self._settings, self._container, self._listeners[number])

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.signal(number)


def work(
    settings: Settings,
    container: str | None,
    listeners: Sequence[socket.socket],
    ready: Connection,
) -> None:
    """Serve as one of several, until SIGTERM or the end of the parent: what a worker's process does."""
    os.setsid()  # Ctrl-C in a terminal is for the parent: twice told, a worker would not drain.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    def tell() -> None:
        with suppress(OSError):  # the parent was killed
            ready.send(True)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        run(create_app(build_container(settings, find_container(container))), listeners, tell)
    except StartError:
        raise SystemExit(1) from None  # why, is in the log


def _listeners(settings: Settings) -> list[list[socket.socket]]:
    listeners = [[each] for each in listen_together(settings.host, settings.port, settings.workers)]
    if settings.worker_port is not None:
        for number, each in enumerate(listeners):
            each.append(listen(settings.host, settings.worker_port + number))
    return listeners


def _close(listeners: Sequence[Sequence[socket.socket]]) -> None:
    for each in listeners:
        for listener in each:
            listener.close()


def _of_a_worker(settings: Settings, engine: EmbeddedEngine | None) -> Settings:
    shutdown = settings.shutdown
    grace = max(shutdown.drain_seconds, WORKER_GRACE * shutdown.grace_seconds)
    changed: dict[str, object] = {"shutdown": shutdown.model_copy(update={"grace_seconds": grace})}
    if engine is not None:
        changed["broker"] = settings.broker.model_copy(update={"url": engine.url})
    return settings.model_copy(update=changed)


def _tell_of_engine(settings: Settings) -> None:
    numbers = {"workers": settings.workers}
    if settings.profile == "production":
        logger.warning("an embedded Valkey keeps the streams, and they end with this process", extra=numbers)
    else:
        logger.info("an embedded Valkey keeps the streams", extra=numbers)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop that came since."""
    told: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _: told.append(number)) for each in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield told
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
