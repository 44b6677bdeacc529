"""The JSON form of the Centrifuge client protocol, version 2: commands in, replies and pushes out.

A text frame holds one or more JSON objects joined by a line break; zero values are omitted. Application payloads are
`msgspec.Raw`: they pass as they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated

import msgspec
from msgspec import Raw

from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.surrogates import HALF_A_PAIR, without_halves

VERSION = f"bulkhead-gateway {version('bulkhead-gateway')}"
NULL = Raw(b"null")
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
# No stream gets there, so nobody was ever given more; engines count to 2**64 - 2, some of them in floats.
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class StreamPosition(msgspec.Struct, frozen=True, omit_defaults=True):
    """`{offset, epoch}` on the wire."""

    offset: Offset = 0
    epoch: str = ""


class SubscribeRequest(msgspec.Struct, frozen=True):
    """A subscription to a channel, or, in `connect.subs`, the position of a server-side one."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0
    data: Raw = NULL
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    flag: int = 0


class ConnectRequest(msgspec.Struct, frozen=True):
    """The first command."""

    token: str = ""
    data: Raw = NULL
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}
    subs: dict[str, SubscribeRequest] = {}
    flag: int = 0


class ChannelRequest(msgspec.Struct, frozen=True):
    """unsubscribe, presence, presence_stats."""

    channel: str = ""


class PublishRequest(msgspec.Struct, frozen=True):
    """A publication by a client."""

    channel: str = ""
    data: Raw = NULL


class HistoryRequest(msgspec.Struct, frozen=True):
    """A look into a stream."""

    channel: str = ""
    limit: Int32 = 0
    since: StreamPosition | None = None
    reverse: bool = False


class RPCRequest(msgspec.Struct, frozen=True):
    """A call."""

    method: str = ""
    data: Raw = NULL


class DataRequest(msgspec.Struct, frozen=True):
    """send."""

    data: Raw = NULL


class RefreshRequest(msgspec.Struct, frozen=True):
    """A new connection token."""

    token: str = ""


class SubRefreshRequest(msgspec.Struct, frozen=True):
    """A new subscription token."""

    channel: str = ""
    token: str = ""


class Empty(msgspec.Struct, frozen=True):
    """A request or result without fields."""


class Command(msgspec.Struct, frozen=True):
    """One command. Without a method and an id it is a pong."""

    id: Int32 = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: ChannelRequest | None = None
    publish: PublishRequest | None = None
    history: HistoryRequest | None = None
    presence: ChannelRequest | None = None
    presence_stats: ChannelRequest | None = None
    rpc: RPCRequest | None = None
    send: DataRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None
    ping: Empty | None = None

    @property
    def method(self) -> str:
        """Name of the method, empty for none that is known."""
        return next((name for name in self.__struct_fields__[1:] if getattr(self, name) is not None), "")


class MalformedCommand(Command, frozen=True):
    """A command that can be told, but not carried out: a string of it is malformed. Made here, never decoded."""

    refused: str = ""

    @property
    def method(self) -> str:
        """Name of the method that was asked for."""
        return self.refused


class SubscribeResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to subscribe, and a value of `connect.subs`."""

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: tuple[Raw, ...] = ()
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Raw | None = None
    was_recovering: bool = False


class ConnectResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to connect."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    data: Raw | None = None
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    time: int = 0


class RefreshResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to refresh and sub_refresh; the latter leaves client and version out."""

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class HistoryResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to history."""

    publications: tuple[Raw, ...] = ()
    epoch: str = ""
    offset: int = 0


class PresenceResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to presence."""

    presence: dict[str, Raw] = {}


class PresenceStatsResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to presence_stats."""

    num_clients: int = 0
    num_users: int = 0


class RPCResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to rpc."""

    data: Raw | None = None


Result = (
    ConnectResult
    | SubscribeResult
    | RefreshResult
    | HistoryResult
    | PresenceResult
    | PresenceStatsResult
    | RPCResult
    | Empty
)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A message to a client, encoded once and shared by all connections that get it."""

    text: str
    size: int


PING = Frame("{}", 2)
_commands = msgspec.json.Decoder(Command)
_encoder = msgspec.json.Encoder()


def decode_commands(text: str) -> Iterator[Command]:
    """The commands of a text frame, one by one; a `MalformedCommand` for one with half a surrogate pair in a string.

    Raises:
        Disconnect: 3501 for an empty frame or what is no command.
    """
    if not text:
        raise Disconnect(DisconnectCode.BAD_REQUEST, "bad request: empty frame")
    for line in text.split("\n"):
        try:
            yield _commands.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            yield _malformed(line, error)


def _malformed(line: str, error: Exception) -> MalformedCommand:
    mended = without_halves(line.encode(errors="surrogatepass"))
    if mended is None:
        # The decoder names the field and the types, or says that nesting is too deep; it does not repeat values.
        raise Disconnect(DisconnectCode.BAD_REQUEST, f"bad request: {error}") from None
    try:
        command = _commands.decode(mended)
    except (msgspec.MsgspecError, RecursionError):
        command = None
    if command is None or command.connect is not None:
        raise Disconnect(DisconnectCode.BAD_REQUEST, f"bad request: {HALF_A_PAIR}") from None
    return MalformedCommand(id=command.id, refused=command.method)


def frame(text: str) -> Frame:
    """A frame of text; its size counts bytes of UTF-8."""
    return Frame(text, len(text) if text.isascii() else len(text.encode()))


def reply(command_id: int, method: str, result: Result) -> Frame:
    """A reply with a result."""
    return encoded({"id": command_id, method: result})


def error_reply(command_id: int, code: int, message: str, temporary: bool) -> Frame:
    """A reply with an error."""
    body = {"code": code, "message": message, "temporary": True} if temporary else {"code": code, "message": message}
    return encoded({"id": command_id, "error": body})


def encode(value: object) -> str:
    """JSON on one line."""
    return _encoder.encode(value).decode()


def one_line(data: bytes) -> str:
    """JSON text as it is, fit for the wire: line breaks become spaces.

    In JSON they can only stand between tokens (RFC 8259, 2 and 7), so no value changes; on the wire they separate
    messages.
    """
    text = data.decode()
    return text.replace("\n", " ").replace("\r", " ") if "\n" in text or "\r" in text else text


def encoded(value: object) -> Frame:
    """A frame of a value."""
    data = _encoder.encode(value)
    return Frame(data.decode(), len(data))
