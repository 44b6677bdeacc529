"""What every session is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from app.realtime.authentication import Authenticator
from app.realtime.broker import Broker
from app.realtime.clock import Clock
from app.realtime.manager import UserManager
from app.realtime.outbound import Turn
from app.realtime.publisher import Publisher
from app.realtime.rpc import RPCHandler


class SessionOptions(msgspec.Struct, frozen=True):
    """What sessions may do; see `config.sections` for each."""

    channels: int
    streams: int
    event_bytes: int
    reply_bytes: int
    hold_bytes: int
    concurrent_rpcs: int
    presence: bool
    join_leave: bool
    client_publish: bool
    personal: bool


class Services(NamedTuple):
    """What every session is given, all of it shared by design: see the container."""

    options: SessionOptions
    clock: Clock
    broker: Broker
    publisher: Publisher[UserManager]
    authenticator: Authenticator
    rpc: Mapping[str, RPCHandler]
    turn: Turn
