"""The process that serves: one event loop, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.garbage import FullSearch, tune_garbage_collection
from app.gateway import gateway_of
from app.listening import listen
from app.logging import configure_logging
from app.protocols import Config
from app.remote import local_address
from config import ConfigurationError, Problem, Settings

BACKLOG = 2048
CLOSE_SECONDS = 1
CUT_SECONDS = 0.5  # for the application, when the grace period is over or somebody insists
KEEP_ALIVE_SECONDS = 75  # Longer than the 60 s of common proxies: who reuses a connection should be first to close it.

logger = logging.getLogger(__name__)


class StartError(RuntimeError):
    """The application did not start."""


class Server(uvicorn.Server):
    """uvicorn with a graceful end: on SIGTERM or SIGINT no new connections, `drain`, and then what uvicorn closes.

    Without `drain` uvicorn would close WebSockets with 1012, before the application hears of the end. A second
    signal, or the end of `shutdown.grace_seconds`, cuts all of this short.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        drain: Callable[[], Awaitable[None]],
        ready: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(_config(app, settings))
        self._settings = settings
        self._drain = drain
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, listen, and say where; `ready` is called instead if there is one."""
        await super().startup(sockets)
        tune_garbage_collection()
        self._full_search = FullSearch()
        for listener in sockets or ():
            host, port, *_ = listener.getsockname()
            if self._ready is None:
                print(welcome(self._settings, port), flush=True)
            logger.info("listening", extra={"host": host, "port": port})
        if self._ready is not None:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does ten times a second."""
        self._full_search.look()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; stop at once the second time.

        uvicorn would note the signal and raise it again at the end; the process would not exit with 0 then.
        """
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop gracefully, for as long as the grace period lasts and nobody insists."""
        logger.info("stopping", extra={"websockets": self._websockets()})
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.shutdown.grace_seconds
        stopping = loop.create_task(self._stop(sockets))
        while not stopping.done() and not self.force_exit and loop.time() < deadline:
            await asyncio.wait((stopping,), timeout=0.1)
        if stopping.done():
            stopping.result()
        else:
            logger.warning("cut off what was still open", extra={"websockets": self._websockets()})
            stopping.cancel()
            await self._end_application()

    async def _end_application(self) -> None:
        """Let it end in good order if it can at once. Else it is cancelled with the event loop, as everything else."""
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), CUT_SECONDS)
        except TimeoutError:
            # uvicorn would log that as an error of the application, with a traceback.
            self.lifespan.logger = logging.Logger("cut off", logging.CRITICAL + 1)  # noqa: LOG001 - of this end alone

    async def _stop(self, sockets: list[socket.socket] | None) -> None:
        for server in self.servers:
            server.close()
        try:
            await self._drain()
            await self._until_closed()
        finally:
            await super().shutdown(sockets)

    async def _until_closed(self) -> None:
        """Give drained connections time to send their close frame and clients to answer: uvicorn would send 1012."""
        for _ in range(50):
            if not self._websockets():
                return
            await asyncio.sleep(CLOSE_SECONDS / 50)

    def _websockets(self) -> int:
        return sum(isinstance(each, WebSocketsSansIOProtocol) for each in self.server_state.connections)


def serve(app: Starlette) -> None:
    """Serve an application with a gateway as `bulkhead serve` does, until the process is told to stop.

    It listens on `host` and `port`, configures logging for the whole process (`log`), says where it listens, and on
    SIGTERM or SIGINT drains connections and ends within `shutdown.grace_seconds`. Call it in the main thread, and not
    in an event loop: it makes its own.

    Args:
        app: of `app.create_app`, or one that `app.mount_gateway` was given. The settings are those of its gateway.

    Raises:
        app.gateway.NoGateway: it has no gateway.
        config.ConfigurationError: `workers` is more than 1: an application cannot be handed to other processes.
        ListenError: the address cannot be listened on.
        StartError: the application did not start; the reason is in the log.
    """
    settings = gateway_of(app).container.settings()
    if settings.workers > 1:
        message = f"is {settings.workers}, but an application of your own is served by one process"
        remedy = "Set it to 1, and run several processes behind a load balancer, with one broker.url."
        raise ConfigurationError([Problem("workers", message, remedy=remedy)])
    with listen(settings.host, settings.port) as listener:
        run(app, [listener])


def run(app: Starlette, listeners: Sequence[socket.socket], ready: Callable[[], None] | None = None) -> None:
    """Serve on bound sockets, as `serve` does.

    Args:
        app: see `serve`.
        listeners: are closed at the end.
        ready: called when it listens; default: says where on standard output.

    Raises:
        StartError: the application did not start; the reason is in the log.
    """
    gateway = gateway_of(app)
    settings = gateway.container.settings()
    configure_logging(settings.log)
    try:
        Server(app, settings, gateway.drain, ready).run(sockets=list(listeners))
    except SystemExit as error:  # That is how uvicorn tells.
        raise StartError("the application did not start; the log says why") from error


def welcome(settings: Settings, port: int) -> str:
    """Say where to go; `port` is the one that was really bound."""
    address = local_address(settings.host, port)
    lines = [f"Bulkhead {settings.profile}: {address}"]
    if settings.demo:
        lines.append(f"  Chat: open {address} in a browser; a second window can be a second user.")
        lines.append(f"  A token for other clients: {command()} token alice --profile {settings.profile}")
    if settings.docs:
        lines.append(f"  HTTP API: {address}/docs")
    return "\n".join(lines)


def command() -> str:
    """The program `bulkhead` of this Python, as a shell in this folder understands it."""
    program = shutil.which("bulkhead", path=Path(sys.executable).parent)
    if program is None:
        return f"{shlex.quote(sys.executable)} -m app"
    path = Path(program)
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _config(app: ASGIApp, settings: Settings) -> Config:
    return Config(
        app,
        settings.limits,
        loop="auto",  # uvloop, and asyncio where there is none.
        ws_max_size=settings.limits.message_bytes,
        ws_ping_interval=None,  # The client protocol has its own ping.
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,  # URLs may carry tokens.
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        # What is left of the grace period after draining, less time for the connections and the application to end.
        timeout_graceful_shutdown=max(
            1, int(settings.shutdown.grace_seconds - settings.shutdown.drain_seconds - 2 * CLOSE_SECONDS)
        ),
    )
