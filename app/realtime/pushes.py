"""What goes to a client unasked, and the JSON that it is made of. Publications and infos are encoded already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.realtime.codes import UnsubscribeCode
from app.realtime.protocol import Frame, encode, encoded, frame


def publication_head(channel: str) -> Frame:
    """How every push of a publication in a channel begins."""
    return frame(f'{{"push":{{"channel":{encode(channel)},"pub":')


def publication_push(head: Frame, text: str, size: int) -> Frame:
    """A push of a publication that is encoded already, in so many bytes of UTF-8."""
    return Frame(f"{head.text}{text}}}}}", head.size + size + 2)


def presence_push(channel: str, kind: str, info: str) -> str:
    """A `join` or `leave` push, as text."""
    return f'{{"push":{{"channel":{encode(channel)},"{kind}":{{"info":{info}}}}}}}'


def unsubscribe_push(channel: str, code: UnsubscribeCode) -> Frame:
    """The server ends a subscription."""
    return encoded({"push": {"channel": channel, "unsubscribe": {"code": code.code, "reason": code.reason}}})


def subscribe_push(channel: str, epoch: str, offset: int) -> Frame:
    """A server-side subscription is at this position now."""
    position = {"recoverable": True, "positioned": True, "epoch": epoch, "offset": offset}
    return encoded({"push": {"channel": channel, "subscribe": position}})


def message_push(data: Mapping[str, Any]) -> Frame:
    """A message to the connection itself, outside any channel."""
    return encoded({"push": {"message": {"data": data}}})


def client_info(user: str, client: str, info: str) -> str:
    """A ClientInfo as JSON; `info` is its conn_info as JSON, or empty."""
    tail = f',"conn_info":{info}' if info else ""
    return f'{{"user":{encode(user)},"client":{encode(client)}{tail}}}'


def with_chan_info(info: str, chan_info: str) -> str:
    """A ClientInfo with its chan_info as JSON, or as it is if that is empty."""
    return f'{info[:-1]},"chan_info":{chan_info}}}' if chan_info else info


def publication_text(data: str, info: str, offset: int) -> str:
    """A publication as JSON; zero values are left out."""
    tail = f',"info":{info}' if info else ""
    return f'{{"data":{data}{tail},"offset":{offset}}}' if offset else f'{{"data":{data}{tail}}}'
