"""Streams in the memory of this process: what they keep, within which bounds, and for how long."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterable
from math import inf

from app.realtime.broker import Publication, StreamLimitExceeded
from app.realtime.stream import KEEPING_OVERHEAD, STREAM_OVERHEAD, Stream, User, weight


class Streams:
    """The streams of all user keys.

    A user in `subscribed` keeps their positions; one who has `left` does so for another `ttl`. Nothing else stays of an
    expired stream. Everything is in order of expiry, so that what is due comes first and nothing is searched for.

    Args:
        size: publications kept in a stream; 0 keeps none.
        ttl: seconds after its last publication, or its start, at which a stream expires.
        max_bytes: weight of all streams that have not expired: of each, and of what it keeps.
        max_bytes_per_user: weight of what the streams of one user key keep.
        max_per_user: streams of one user key.
        subscribed: the user keys that have a subscriber, kept up to date by the owner.

    Attributes:
        bytes: weight of all streams that have not expired. A position of one that has is its subscriber's cost.
    """

    def __init__(
        self,
        *,
        size: int,
        ttl: float,
        max_bytes: int,
        max_bytes_per_user: int,
        max_per_user: int,
        subscribed: Container[str],
    ) -> None:
        """Start empty."""
        self._size = size
        self._ttl = ttl
        self._max_bytes = max_bytes
        # Otherwise one publication could push out the history of everybody.
        self._max_bytes_per_user = min(max_bytes - STREAM_OVERHEAD, max_bytes_per_user)
        self._max_per_user = max_per_user
        self._subscribed = subscribed
        self._users: dict[str, User] = {}
        # Recent: streams that have not expired. Left: users with streams whose subscriber left less than `ttl` ago.
        # OrderedDict, because the first item of a dict is slow to find after deletions at its front.
        self._recent: OrderedDict[Stream, None] = OrderedDict()
        self._left: OrderedDict[User, None] = OrderedDict()
        self._count = 0
        self.bytes = 0

    def __len__(self) -> int:
        """Streams of all user keys."""
        return self._count

    @property
    def users(self) -> int:
        """User keys that have streams."""
        return len(self._users)

    @property
    def due(self) -> float:
        """Steady time at which `expire` next has something to do; infinity: never."""
        recent = next(iter(self._recent)).expires if self._recent else inf
        left = next(iter(self._left)).forget_at if self._left else inf
        return min(recent, left)

    def find(self, key: str, channel: str, now: float) -> Stream:
        """The stream as it is now, started if there is none.

        Raises:
            StreamLimitExceeded: it would be one too many for the user key.
        """
        user = self._users.get(key)
        stream = None if user is None else user.streams.get(channel)
        if stream is not None and stream.expires <= now:
            self._settle(stream)
            # It lives on as a position, or is gone, and perhaps its user with it.
            user = self._users.get(key)
            stream = None if user is None else user.streams.get(channel)
        return self._start(user or User(key), channel, now) if stream is None else stream

    def of(self, key: str, now: float) -> tuple[Stream, ...]:
        """The streams of a user key as they are now."""
        user = self._users.get(key)
        if user is None:
            return ()
        for stream in tuple(user.streams.values()):
            if stream.expires <= now:
                self._settle(stream)
        return tuple(user.streams.values())

    def append(self, stream: Stream, data: str, info: str, now: float) -> Publication:
        """Make the stream's next publication and keep it, within the bounds."""
        offset = stream.top + 1
        if info:
            text = f'{{"data":{data},"info":{info},"offset":{offset}}}'
        else:
            text = f'{{"data":{data},"offset":{offset}}}'
        size = len(text) if text.isascii() else len(text.encode())
        # The stream's own names: many publications, one string.
        publication = Publication(stream.user.key, stream.channel, offset, stream.epoch, text, size)
        stream.top = offset
        if stream.expires == inf:
            self._recent[stream] = None
            self.bytes += STREAM_OVERHEAD
        else:
            self._recent.move_to_end(stream)
        stream.expires = now + self._ttl
        self._keep(stream, publication)
        self._make_room()
        return publication

    def leave(self, key: str, now: float) -> None:
        """The user key has no subscriber any more: keep its positions for `ttl`."""
        user = self._users.get(key)
        if user is not None:
            user.forget_at = now + self._ttl
            self._left[user] = None

    def come_back(self, key: str) -> None:
        """The user key has a subscriber: keep its positions."""
        user = self._users.get(key)
        if user is not None:
            self._left.pop(user, None)

    def expire(self, now: float) -> bool:
        """Do the one thing that is due longest; whether there was one."""
        if self._recent and (stream := next(iter(self._recent))).expires <= now:
            self._settle(stream)
        elif self._left and (user := next(iter(self._left))).forget_at <= now:
            del self._left[user]
            self._forget(user, [stream for stream in user.streams.values() if stream.expires == inf])
        else:
            return False
        return True

    def clear(self) -> None:
        """Forget everything."""
        for user in self._users.values():
            # Streams and users hold each other; without this they would wait for the garbage collector.
            user.streams.clear()
            user.kept.clear()
        self._users.clear()
        self._recent.clear()
        self._left.clear()
        self._count = self.bytes = 0

    def _start(self, user: User, channel: str, now: float) -> Stream:
        if len(user.streams) >= self._max_per_user:
            raise StreamLimitExceeded(self._max_per_user)
        stream = Stream(user, channel, now + self._ttl)
        self._users[user.key] = user
        user.streams[channel] = stream
        self._recent[stream] = None
        self._count += 1
        self.bytes += STREAM_OVERHEAD
        self._make_room()
        return stream

    def _keep(self, stream: Stream, publication: Publication) -> None:
        user, kept, added = stream.user, stream.publications, weight(publication)
        if self._size == 0 or added + KEEPING_OVERHEAD > self._max_bytes_per_user:
            # What lies before the gap could not be recovered from any more.
            self._empty(stream)
            return
        if not isinstance(kept, deque):
            kept = stream.publications = deque()
            user.kept[stream] = None
            added += KEEPING_OVERHEAD
        else:
            if len(kept) == self._size:
                added -= weight(kept.popleft())
            if len(user.kept) > 1:
                user.kept.move_to_end(stream)
        kept.append(publication)
        stream.weight += added
        user.weight += added
        self.bytes += added
        # The newest is last and fits by itself, so this ends before it.
        while user.weight > self._max_bytes_per_user:
            self._drop_oldest(next(iter(user.kept)))

    def _make_room(self) -> None:
        """Within all bytes; the newest stream is last, and stays."""
        while self.bytes > self._max_bytes and len(self._recent) > 1:
            oldest = next(iter(self._recent))
            if oldest.publications:
                self._drop_oldest(oldest)
            if not oldest.publications:
                self._settle(oldest)

    def _drop_oldest(self, stream: Stream) -> None:
        kept = stream.publications
        assert isinstance(kept, deque)
        if len(kept) == 1:
            self._empty(stream)
            return
        dropped = weight(kept.popleft())
        stream.weight -= dropped
        stream.user.weight -= dropped
        self.bytes -= dropped

    def _empty(self, stream: Stream) -> None:
        if stream.publications:
            stream.user.weight -= stream.weight
            self.bytes -= stream.weight
            stream.weight = 0
            stream.publications = ()
            del stream.user.kept[stream]

    def _settle(self, stream: Stream) -> None:
        """Take what the stream keeps, and the stream itself if nobody is there to hold a position in it."""
        self._empty(stream)
        del self._recent[stream]
        self.bytes -= STREAM_OVERHEAD
        stream.expires = inf
        user = stream.user
        if user.key not in self._subscribed and user not in self._left:
            self._forget(user, (stream,))

    def _forget(self, user: User, streams: Iterable[Stream]) -> None:
        for stream in streams:
            del user.streams[stream.channel]
            self._count -= 1
        if not user.streams:
            del self._users[user.key]
