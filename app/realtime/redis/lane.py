"""Commands on their way to one server: those that come while others are on their way leave together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from app.realtime.broker import BrokerError, BrokerFull, BrokerUnavailable
from app.realtime.redis.servers import Command, Servers

BATCH = 500
"""Commands that leave together, at most: what one reply of the server makes wait."""

ELSEWHERE = (MovedError, AskError, TryAgainError)
UNFIT = (ClusterDownError, MasterDownError, ReadOnlyError, NoScriptError)
"""The server did not carry the command out and will not carry out others."""

FACTS = re.compile(rb"^(run_id|master_replid2?|connected_slaves|cluster_my_epoch):(\w+)", re.MULTILINE)
"""What `INFO` and `CLUSTER INFO` tell of whose data a server has."""

NEVER_PROMOTED = b"0" * 40
"""`master_replid2` of a server that is no promoted replica."""

FAILURES = (RedisError, OSError, TimeoutError)
"""How a server cannot be reached: the connection, or time, has run out."""


class Lane:
    """One connection to one server, with one batch on its way at a time, so that commands arrive in their order.

    It never connects again: what a server was known to be when the connection opened holds for all that it carries.

    Args:
        name: of the server.
        connection: not open yet.
        servers: knows what to do with a command that belongs elsewhere.
        timeout: seconds for a batch.
        pending: commands that may wait.
        failed: called once, with the reason, when the connection is of no use any more.

    Attributes:
        lineage: whose data the streams are that this server wrote: a stream of another one begins anew. See
            `_lineage`.
    """

    def __init__(
        self,
        name: str,
        connection: AbstractConnection,
        servers: Servers,
        *,
        timeout: float,
        pending: int,
        failed: Callable[[str], None],
    ) -> None:
        """Not open yet."""
        self.lineage = self._name = name
        self._connection = connection
        self._servers = servers
        self._timeout = timeout
        self._pending = pending
        self._failed = failed
        self._waiting: list[tuple[Command, asyncio.Future[Any] | None]] = []
        self._sent: list[tuple[Command, asyncio.Future[Any] | None]] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._clock = 0.0
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def open(self, load: Sequence[Command]) -> None:
        """Connect, make scripts known, and see what time it is there.

        Raises:
            redis.RedisError, OSError, TimeoutError: it cannot.
        """
        async with asyncio.timeout(self._timeout):
            await self._connection.connect()  # type: ignore[no-untyped-call]
            about = [["INFO", "server"], ["INFO", "replication"], ["CLUSTER", "INFO"], ["CONFIG", "GET", "append*"]]
            *loaded, time, server, replication, cluster, keeping = await self._exchange([*load, ["TIME"], *about])
            *_, (seconds, microseconds) = map(_require, [*loaded, time])
            self.lineage = _lineage(self._name, (server, replication, cluster), keeping)
        # Measured late rather than early: a deadline is then rather too early than too late.
        self._clock = int(seconds) * 1000 + int(microseconds) / 1000 - self._loop.time() * 1000
        self._task = self._loop.create_task(self._run())

    def __len__(self) -> int:
        """Commands that have no answer yet."""
        return len(self._waiting) + len(self._sent)

    def submit(self, command: Command, *, first: bool = False) -> asyncio.Future[Any]:
        """Send a command; its reply, in time.

        Args:
            command: what redis-py packs.
            first: before all that waits, however much that is.

        Raises (when awaited):
            BrokerUnavailable: it was not carried out, or, if `uncertain`, nobody knows.
            BrokerError: the server refused it.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            future.set_exception(BrokerUnavailable("the connection is closed"))
        elif first:
            self._waiting.insert(0, (command, future))
            self._wake.set()
        elif len(self._waiting) >= self._pending:
            future.set_exception(BrokerError(f"{self._pending} commands wait for the broker already"))
        else:
            self._append(command, future)
        return future

    def post(self, command: Command) -> None:
        """Send a command whose reply nobody waits for. Without a connection it is forgotten."""
        if not self._closed:
            self._append(command, None)

    def close(self, reason: str) -> None:
        """Give up what waits, which was never sent, and what is on its way, whose fate nobody knows."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for batch, uncertain in ((self._sent, True), (self._waiting, False)):
            for _, future in batch:
                if future is not None and not future.done():
                    future.set_exception(BrokerUnavailable(reason, uncertain=uncertain))
        self._sent, self._waiting = [], []

    async def disconnect(self) -> None:
        """Close the connection; after `close`. Harmless when repeated."""
        await self._connection.disconnect(nowait=True)

    def _append(self, command: Command, future: asyncio.Future[Any] | None) -> None:
        self._waiting.append((command, future))
        self._wake.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._batch()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would ever hear of it
            self._failed(f"{type(error).__name__}: no answer")
        finally:
            await self.disconnect()

    async def _batch(self) -> None:
        sent = self._sent = self._waiting[:BATCH]
        self._waiting = self._waiting[BATCH:]
        deadline = round(self._loop.time() * 1000 + self._clock + self._timeout * 1000)
        for command, _ in sent:
            if command[-1] is None:
                command[-1] = deadline
        async with asyncio.timeout(self._timeout):
            replies = await self._exchange([command for command, _ in sent])
        for (command, future), reply in zip(sent, replies, strict=True):
            answer = await self._elsewhere(command) if isinstance(reply, ELSEWHERE) else reply
            if isinstance(answer, UNFIT):
                raise answer
            if future is not None and not future.done():
                _settle(future, answer)
        self._sent = []

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        connection = self._connection
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies

    async def _elsewhere(self, command: Command) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._servers.redirect(command)
        except ResponseError as error:
            return error


def _require(reply: Any) -> Any:
    if isinstance(reply, ResponseError):
        raise reply
    return reply


def _lineage(name: str, answers: Sequence[Any], keeping: Any) -> str:
    """Whose data a server has: the same again only where nothing that it acknowledged can be missing.

    It is the server's name; in a cluster its config epoch, which is a new one for who takes slots over, so that a
    master that comes back after another is not taken for the one it was (behind sentinels the name has that); and its
    life, unless it writes each command down before it answers, as it has lost the last of them when it starts again.

    Args:
        name: of the server, from `Servers.discover`; empty: one whose address may be another's tomorrow.
        answers: to `INFO` and `CLUSTER INFO`; an error where it is no cluster, or where the user may not ask.
        keeping: the answer to `CONFIG GET append*`.
    """
    facts = {name: fact for answer in answers if isinstance(answer, bytes) for name, fact in FACTS.findall(answer)}
    # Where replicas follow, one address may lead to another of them any time.
    alone = (facts.get(b"connected_slaves"), facts.get(b"master_replid2")) == (b"0", NEVER_PROMOTED)
    forbidden = any(isinstance(answer, NoPermissionError) for answer in answers)
    parts = [facts.get(b"cluster_my_epoch", b"")]
    if not _keeps_all(keeping) or forbidden or not (name or alone):
        parts += [facts.get(b"run_id", b"")[:8], facts.get(b"master_replid", b"")[:8]]
    return "@".join([name, *(part.decode() for part in parts if part)])


def _keeps_all(settings: Any) -> bool:
    """Whether a server that starts again has all that it had acknowledged; one that does not say may not."""
    if not isinstance(settings, list):
        return False
    named = dict(zip(settings[::2], settings[1::2], strict=False))
    return (named.get(b"appendonly"), named.get(b"appendfsync")) == (b"yes", b"always")


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if isinstance(reply, OutOfMemoryError):
        future.set_exception(BrokerFull())
    elif isinstance(reply, ResponseError):
        # Its text may quote the command, and with it a payload.
        future.set_exception(BrokerError(f"the server refused a command: {type(reply).__name__}"))
    else:
        future.set_result(reply)
