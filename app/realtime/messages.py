"""What nodes tell each other about operators."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec

from app.realtime.broker import Broker, BrokerUnavailable
from app.realtime.modes import Decision, ModeKind, ModeLimitExceeded, ModePolicy


class DisconnectUser(msgspec.Struct, frozen=True, tag="disconnect"):
    """An operator ended the connections of a user."""

    user_id: str


class SetMode(msgspec.Struct, frozen=True, tag="mode"):
    """An operator set a mode.

    Attributes:
        user_id: whose; None: everybody's.
        kind: None: the configuration decides again.
        keys: ISOLATED or UNIFIED, if that is not for the configuration to say; see `Decision`.
    """

    user_id: str | None
    kind: ModeKind | None = None
    keys: ModeKind | None = None


Message = DisconnectUser | SetMode


def encode_message(message: Message) -> str:
    """As JSON."""
    return msgspec.json.encode(message).decode()


def decode_message(text: str) -> Message:
    """From JSON.

    Raises:
        msgspec.DecodeError: it is of a later version.
    """
    message: Message = msgspec.json.decode(text, type=Message)
    return message


KEPT = "kept:"
"""Begin of the name of a stored value that says that what was stored is still there. The rest of it is random, so that
nodes notice that it is not there any more, although another node has stored such a value since."""


class OperatorModes:
    """Keeps what operators set alike on all nodes: each stores it, and tells the others to read it.

    What is stored decides. So all nodes agree in the end, however many operators are at it at once.

    Args:
        policy: this node's.
        broker: the way to the others.
        limit: changes that wait to be told while the broker cannot be reached.
    """

    def __init__(self, policy: ModePolicy, broker: Broker, limit: int) -> None:
        """Nothing waits to be told."""
        self._policy = policy
        self._broker = broker
        self._limit = limit
        self._untold: dict[str | None, None] = {}
        self._kept: frozenset[str] = frozenset()
        self._loading = 0
        self._heard: set[str | None] = set()

    def set(self, user_id: str | None, kind: ModeKind | None) -> None:
        """Set a mode on this node; `tell` tells the others.

        Raises:
            ModeLimitExceeded: modes of too many users are set.
        """
        if user_id not in self._untold and len(self._untold) > self._limit:
            raise ModeLimitExceeded(self._limit)
        if user_id is None:
            self._policy.set_for_all(kind)
        else:
            self._policy.set_for_user(user_id, kind)
        self._untold[user_id] = None

    async def tell(self) -> list[str | None]:
        """Tell the other nodes what was set here; while the broker cannot be reached, it waits for another call.

        Returns:
            Whose mode was set elsewhere at the same time, a little later: that holds here now, too. None: everybody's.
        """
        overruled: list[str | None] = []
        for user_id in list(self._untold):
            decided = self._policy.operators.get(user_id)
            message = SetMode(user_id) if decided is None else SetMode(user_id, decided.kind, decided.keys)
            text = encode_message(message)
            try:
                await self._broker.store(_name(user_id), None if decided is None else text)
                await self._broker.broadcast(text)
                if self._policy.operators.get(user_id) is decided:
                    self._untold.pop(user_id, None)
                if await self.learn(user_id):
                    overruled.append(user_id)
            except BrokerUnavailable:
                break
        return overruled

    async def learn(self, user_id: str | None) -> bool:
        """Another node told of a change: take what is stored. Whether that is another mode than before.

        Raises:
            BrokerUnavailable: it cannot be read.
        """
        if self._loading:
            self._heard.add(user_id)
        name = _name(user_id)
        text = await self._broker.recall(name)
        before = self._policy.operators.get(user_id)
        if text is None and before is not None and await self._is_another_store():
            if not self._loading:
                await self.load()
        else:
            message = SetMode(user_id) if text is None else _stored_mode(name, text)
            if message is not None and user_id not in self._untold:
                self._restore(message)
        return self._policy.operators.get(user_id) != before

    async def _is_another_store(self) -> bool:
        """Whether what was stored is gone, so that a mode that is not there was not taken back by anybody."""
        return bool(self._kept) and self._kept.isdisjoint(_kept(await self._broker.stored()))

    def _restore(self, message: SetMode) -> None:
        decided = None if message.kind is None else Decision(message.kind, "operator", message.keys)
        self._policy.restore(message.user_id, decided)

    async def load(self) -> None:
        """Take what is stored, but for what waits to be told, and what another node told while it was read.

        A broker that keeps nothing over its restart has forgotten what was set. No user may change modes by that, so
        each node then stores what it knows, and forgets nothing.

        Raises:
            BrokerUnavailable: it cannot be read.
        """
        self._loading += 1
        try:
            stored = await self._broker.stored()
            while not (kept := _kept(stored)) or (self._kept and self._kept.isdisjoint(kept)):
                gone = [user_id for user_id in self._policy.operators if _name(user_id) not in stored]
                self._untold.update(dict.fromkeys(gone))
                await self.tell()
                if not kept:
                    await self._broker.store(life := f"{KEPT}{secrets.token_hex(8)}", "")
                    kept = frozenset((life,))
                self._kept = kept
                stored = await self._broker.stored()
            self._kept = kept
            known = self._untold.keys() | self._heard
        finally:
            self._loading -= 1
            if not self._loading:
                self._heard = set()
        for user_id in self._policy.operators.keys() - known:
            if _name(user_id) not in stored:
                self._policy.restore(user_id, None)
        for name, text in stored.items():
            message = _stored_mode(name, text)
            if message is not None and message.user_id not in known:
                self._restore(message)


def _kept(stored: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name in stored if name.startswith(KEPT))


def _stored_mode(name: str, text: str) -> SetMode | None:
    """What is stored under a name; None: something else, such as of a later version, and what held before holds on."""
    try:
        message = decode_message(text)
    except msgspec.DecodeError:
        return None
    return message if isinstance(message, SetMode) and _name(message.user_id) == name else None


def _name(user_id: str | None) -> str:
    return "mode" if user_id is None else f"mode:{user_id}"
