"""Who a user is, and the key that stands for them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote

MAX_ID_BYTES = 255
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")  # RFC 3986, 2.3


class IdentityError(ValueError):
    """An id breaks a rule, or there is no id at all. No identity, no manager.

    Attributes:
        name: the field, such as `user_id`; empty when no field is at fault.
        rule: what was broken, and the remedy. Never the id itself: it may be somebody's secret.
    """

    def __init__(self, name: str, rule: str) -> None:
        """Keep the field and the rule."""
        super().__init__(f"{name} {rule}" if name else rule)
        self.name = name
        self.rule = rule


def check_id(name: str, value: object) -> str:
    """The id, unchanged: nothing is stripped or folded, so that two ids are one only if they are the same.

    Raises:
        IdentityError: not a string, empty, longer than 255 bytes of UTF-8, not encodable, or with control characters.
    """
    if not isinstance(value, str):
        raise IdentityError(name, f"must be a string, got {type(value).__name__}; convert it where it comes from")
    if 0 < len(value) <= MAX_ID_BYTES and value.isascii() and value.isprintable():
        return value  # nearly every id there is, checked for every event
    if not value:
        raise IdentityError(name, "is empty; leave it out if there is none")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise IdentityError(name, "contains lone surrogates, which UTF-8 cannot carry") from None
    if size > MAX_ID_BYTES:
        raise IdentityError(name, f"has {size} bytes of UTF-8; at most {MAX_ID_BYTES} are allowed")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise IdentityError(name, "contains control characters, which are not allowed")
    return value


def encode_key(kind: str, *parts: str) -> str:
    """An injective name: two different (kind, parts) never give the same key.

    Parts are percent-encoded (RFC 3986; only unreserved characters stay), so the separators cannot occur in one.
    """
    # Nearly every id is unreserved as a whole, and to see that is several times as fast as to encode it.
    encoded = [part if UNRESERVED.fullmatch(part) else quote(part, safe="") for part in parts]
    return f"{kind}:{':'.join(encoded)}"  # never interned: Python 3.12 keeps what is, for good


def user_of(key: str) -> str | None:
    """The user id in a user key; None for the key of somebody without one.

    >>> user_of("user:a%3Ab")
    'a:b'
    """
    kind, user, *_ = key.split(":")
    return unquote(user) if kind in ("user", "user-session") else None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class UserContext:
    """The identity behind a request or a connection. Immutable; `claims` is copied and frozen all the way down.

    Args:
        user_id: the logical user. Decides the key when present.
        session_id: one sign-in of the user. Decides when there is no user id.
        thread_id, request_id: together they decide when there is neither.
        claims: verified claims about the user; rules on modes read them.

    Attributes:
        key: the user key, such as `user:alice`.
        session_key: the key of this session of the user alone; `key` when there is no session to tell apart.

    Raises:
        IdentityError: an id breaks a rule, or no id says who this is.

    >>> UserContext(user_id="alice").key
    'user:alice'
    >>> UserContext(user_id="alice", session_id="phone").session_key
    'user-session:alice:phone'
    >>> UserContext(user_id="a:b").key
    'user:a%3Ab'
    """

    user_id: str | None = None
    session_id: str | None = None
    thread_id: str | None = None
    request_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    key: str = field(init=False)
    session_key: str = field(init=False)

    def __post_init__(self) -> None:
        """Check the ids and derive the keys once: they are read for every event."""
        for name in ("user_id", "session_id", "thread_id", "request_id"):
            value = getattr(self, name)
            if value is not None:
                check_id(name, value)
        key = self._derive_key()
        session_key = key
        if self.user_id is not None and self.session_id is not None:
            session_key = encode_key("user-session", self.user_id, self.session_id)
        object.__setattr__(self, "claims", freeze(self.claims))
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "session_key", session_key)

    def _derive_key(self) -> str:
        if self.user_id is not None:
            return encode_key("user", self.user_id)
        if self.session_id is not None:
            return encode_key("session", self.session_id)
        if self.thread_id is not None and self.request_id is not None:
            return encode_key("request", self.thread_id, self.request_id)
        raise IdentityError("", "no identity: give user_id, or session_id, or thread_id and request_id together")

    @property
    def subject(self) -> str:
        """What the wire calls the user: the user id, else the session id, else the request id."""
        return self.user_id or self.session_id or self.request_id or ""


def freeze(value: Any) -> Any:
    """A copy that nobody can change: read-only mappings over copies of their own, tuples, frozen sets."""
    match value:
        case Mapping():
            return MappingProxyType({key: freeze(item) for key, item in value.items()})
        case list() | tuple():
            return tuple(freeze(item) for item in value)
        case set() | frozenset():
            return frozenset(freeze(item) for item in value)
        case _:
            return value
