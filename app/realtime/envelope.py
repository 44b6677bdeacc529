"""Events of back ends: what clients get as the data of a publication."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

import msgspec
from msgspec import Raw

from app.realtime.clock import Clock
from app.realtime.identity import check_id
from app.realtime.protocol import encode, one_line
from app.realtime.surrogates import HALF_A_PAIR, without_halves

TYPES = 1000


class InvalidData(ValueError):
    """The data of an event is bytes that are no JSON. `why` names the place and not the content."""

    def __init__(self, why: str) -> None:
        """Keep the reason."""
        super().__init__(f"data is not JSON: {why}")
        self.why = why


class EventTooLarge(ValueError):
    """The data of an event is larger than allowed."""

    def __init__(self, size: int, limit: int) -> None:
        """Keep both sizes in bytes."""
        super().__init__(f"data has {size} bytes; at most {limit} are allowed (limits.event_bytes)")
        self.size = size
        self.limit = limit


class Envelopes:
    """Wraps events as `{"type", "data", "thread_id"?, "id", "at"}`, `data` as it came.

    Args:
        clock: for `at`, milliseconds since the epoch.
        max_bytes: bytes of `data` that are allowed.
    """

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        """Draw a prefix, so that ids of different processes differ."""
        self._clock = clock
        self._max_bytes = max_bytes
        self._prefix = secrets.token_hex(6)
        self._serials = itertools.count(1)
        self._types: dict[str, str] = {}

    def seal(self, type_: str, data: Any, thread_id: str | None = None) -> str:
        """An event as JSON on one line.

        Args:
            type_: name of the event type, by the rules of ids.
            data: `bytes` are JSON already and pass byte for byte, but for line breaks between tokens; so does
                `msgspec.Raw`, which a decoder has checked. Anything else is encoded.
            thread_id: conversation the event belongs to.

        Raises:
            IdentityError: type or thread id break the rules of ids.
            InvalidData: data is bytes but not JSON in UTF-8, or has half a surrogate pair in a string.
            EventTooLarge: data has too many bytes.
            TypeError: data cannot be encoded as JSON.
        """
        text = _text(data)
        if len(text) * 4 > self._max_bytes and (size := len(text.encode())) > self._max_bytes:
            raise EventTooLarge(size, self._max_bytes)
        head = self._types.get(type_) or self._head(type_)
        thread = "" if thread_id is None else f',"thread_id":{encode(check_id("thread_id", thread_id))}'
        return (
            f'{head}{text}{thread},"id":"{self._prefix}{next(self._serials):x}","at":{int(self._clock.time() * 1000)}}}'
        )

    def _head(self, type_: str) -> str:
        head = f'{{"type":{encode(check_id("type", type_))},"data":'
        # An application has few types and sends each many times; whoever has more pays for each.
        if len(self._types) < TYPES:
            self._types[type_] = head
        return head


_json = msgspec.json.Decoder(Raw)


def _text(data: Any) -> str:
    try:
        if isinstance(data, Raw):
            return one_line(bytes(data))
        return one_line(bytes(_json.decode(data))) if isinstance(data, bytes) else encode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, UnicodeEncodeError) as error:
        if isinstance(error, UnicodeEncodeError) or (isinstance(data, bytes) and without_halves(data)):
            raise InvalidData(HALF_A_PAIR) from None
        raise InvalidData(error.reason if isinstance(error, UnicodeDecodeError) else str(error)) from None
    except RecursionError:
        raise InvalidData("it is nested too deeply") from None
