"""What nodes tell each other, and what they remember together."""

from __future__ import annotations

from app.realtime.broker import BrokerListener
from app.realtime.redis.attachment import Attachment
from app.realtime.redis.scripts import Scripts


class Nodes:
    """The pub/sub channel and the values that all nodes share.

    Args:
        scripts: names keys.
        node: name of this node, which does not hear itself.
    """

    def __init__(self, scripts: Scripts, node: str) -> None:
        """Nothing is said yet."""
        self._base = scripts.own("nodes")
        self._node = node.encode()
        self.channel = self._base.encode()

    async def broadcast(self, attachment: Attachment, message: str) -> None:
        """Tell all other nodes that are connected."""
        await attachment.lane(self._base)[0].submit(["SPUBLISH", self._base, b"%s %s" % (self._node, message.encode())])

    def receive(self, message: bytes, listener: BrokerListener) -> None:
        """Pass on what another node said."""
        node, _, text = message.partition(b" ")
        if node != self._node:
            listener.broker_message(text.decode())

    async def store(self, attachment: Attachment, name: str, value: str | None) -> None:
        """Remember a value under a name; None forgets it."""
        key = f"{self._base}:v"
        await attachment.lane(self._base)[0].submit(
            ["HDEL", key, name] if value is None else ["HSET", key, name, value]
        )

    async def recall(self, attachment: Attachment, name: str) -> str | None:
        """What is remembered under a name."""
        found = await attachment.lane(self._base)[0].submit(["HGET", f"{self._base}:v", name])
        return None if found is None else str(found, "utf-8")

    async def stored(self, attachment: Attachment) -> dict[str, str]:
        """What is remembered, by name."""
        found = await attachment.lane(self._base)[0].submit(["HGETALL", f"{self._base}:v"])
        return {name.decode(): value.decode() for name, value in zip(found[::2], found[1::2], strict=True)}
