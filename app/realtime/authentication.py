"""Who connects: JSON Web Tokens (RFC 7519), verified with one pinned algorithm."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
import msgspec

from app.realtime.clock import Clock
from app.realtime.identity import IdentityError, UserContext, check_id
from app.realtime.protocol import one_line

LATEST = 253_402_300_800  # seconds since the epoch at the end of the year 9999
NO_KEY = "the token names no key (kid) of the key set"


class InvalidToken(Exception):
    """A token proves nothing: malformed, forged, for somebody else, or not yet valid.

    `why` never repeats its content.
    """

    def __init__(self, why: str) -> None:
        """Keep the reason."""
        super().__init__(why)
        self.why = why


class ExpiredToken(InvalidToken):
    """A token was good and is not any more; a fresh one helps."""

    def __init__(self) -> None:
        """The one reason there is."""
        super().__init__("the token has expired; get a fresh one")


class KeysUnavailable(Exception):
    """The keys cannot be had now: nothing can be said about a token, and another try makes sense."""


class KeySource(Protocol):
    """Finds the key that verifies a token."""

    async def key(self, token: str) -> Any:
        """The key.

        Raises:
            InvalidToken: there is none for this token.
            KeysUnavailable: where keys come from does not answer, or not with keys.
        """


class StaticKey:
    """One key for all tokens: a shared secret or a public key."""

    def __init__(self, key: str | bytes) -> None:
        """Take the key."""
        self._key = key

    async def key(self, token: str) -> Any:
        """See `KeySource.key`."""
        return self._key


class KeySet:
    """A JSON Web Key Set (RFC 7517) by `kid`, in memory."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        """Parse the set.

        Raises:
            jwt.PyJWKSetError: no key in it can be used.
        """
        self._keys = jwt.PyJWKSet.from_dict(dict(keys))

    async def key(self, token: str) -> Any:
        """See `KeySource.key`."""
        try:
            return self._keys[kid_of(token)]
        except KeyError:
            raise InvalidToken(NO_KEY) from None


def kid_of(token: str) -> str:
    """The `kid` that a token's header names; empty: none.

    Raises:
        InvalidToken: it is malformed.
    """
    try:
        return str(jwt.get_unverified_header(token).get("kid", ""))
    except (jwt.InvalidTokenError, RecursionError):
        raise InvalidToken("the token is malformed") from None


@dataclass(frozen=True, slots=True)
class Authenticated:
    """What a connection token proves.

    Attributes:
        context: the identity.
        expire_at: seconds since the epoch at which the connection must have been refreshed; None: never.
        info: `info` or `b64info` of the token as JSON on one line, for presence; empty: none.
        channels: channels that the server subscribes the connection to.
    """

    context: UserContext
    expire_at: float | None
    info: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SubscriptionGrant:
    """What a subscription token proves: see `Authenticated`."""

    expire_at: float | None
    info: str


class Authenticator:
    """Verifies tokens.

    Args:
        keys: where keys come from; None accepts no token at all.
        algorithm: the one that is accepted; a token's own `alg` only has to agree.
        audience: accepted values of `aud`; empty: not required.
        issuer: required `iss`; None: not required.
        leeway: seconds of clock skew.
        session_claim: claim with the session id.
        clock: what decides whether a token has expired.
    """

    def __init__(
        self,
        *,
        keys: KeySource | None,
        algorithm: str,
        audience: tuple[str, ...],
        issuer: str | None,
        leeway: float,
        session_claim: str,
        clock: Clock,
    ) -> None:
        """Take the configuration."""
        self._keys = keys
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._session_claim = session_claim
        self._clock = clock

    async def authenticate(self, token: str) -> Authenticated:
        """Who a connection token says this is.

        Raises:
            ExpiredToken: it was good.
            InvalidToken: it proves nothing.
            KeysUnavailable: see `KeySource.key`.
        """
        claims = await self._claims(token)
        if "channel" in claims:
            raise InvalidToken("this is a subscription token; connect with a connection token")
        try:
            context = UserContext(user_id=claims.get("sub"), session_id=claims.get(self._session_claim), claims=claims)
            channels = claims.get("channels") or ()
            if not isinstance(channels, (list, tuple)):
                raise InvalidToken("channels must be a list of names")
            subs = claims.get("subs") or {}
            if not isinstance(subs, Mapping):
                raise InvalidToken("subs must map channels to options")
            personal = f"#{context.subject}"  # longer by one than the id, which may be as long as a name
            named = (name if name == personal else check_id("channels", name) for name in (*channels, *subs))
            names = tuple(dict.fromkeys(named))
        except IdentityError as error:
            raise InvalidToken(str(error)) from None
        except RecursionError:
            raise InvalidToken("claims are nested too deep") from None
        return Authenticated(context, self._expire_at(claims), _info(claims), names)

    async def authenticate_subscription(
        self, token: str, *, user_id: str | None, client: str, channel: str
    ) -> SubscriptionGrant:
        """What a subscription token allows.

        Raises:
            ExpiredToken: it was good.
            InvalidToken: it proves nothing.
            KeysUnavailable: see `KeySource.key`.
            ForeignToken: it is for another user, connection or channel.
        """
        claims = await self._claims(token)
        if not claims.get("channel"):
            raise InvalidToken("a subscription token needs a channel")
        if (
            claims.get("sub") != user_id  # one that names nobody is not everybody's
            or claims.get("client", client) != client
            or claims["channel"] != channel
        ):
            raise ForeignToken
        return SubscriptionGrant(self._expire_at(claims), _info(claims))

    async def _claims(self, token: str) -> dict[str, Any]:
        if self._keys is None:
            raise InvalidToken("no tokens are accepted here: no key is configured")
        key = await self._keys.key(token)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                audience=self._audience or None,
                issuer=self._issuer,
                options={
                    "verify_aud": bool(self._audience),
                    # By the injected clock below: the library reads the system's.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, RecursionError) as error:
            raise InvalidToken(f"the token does not verify: {type(error).__name__}") from None
        now = self._clock.time()
        if _time(claims, "nbf", 0) > now + self._leeway:
            raise InvalidToken("the token is not valid yet")
        if _time(claims, "exp", now + 1) <= now - self._leeway:
            raise ExpiredToken
        return claims

    def _expire_at(self, claims: Mapping[str, Any]) -> float | None:
        # expire_at, if present, overrules exp for the connection; 0 means that it does not expire.
        if "expire_at" not in claims:
            return _time(claims, "exp", 0) or None
        expire_at = _time(claims, "expire_at", 0) or None
        if expire_at is not None and expire_at <= self._clock.time() - self._leeway:
            raise ExpiredToken  # or its client would be let in and sent away, again and again
        return expire_at


class ForeignToken(InvalidToken):
    """A subscription token of another user, connection or channel."""

    def __init__(self) -> None:
        """The one reason there is."""
        super().__init__("the subscription token is for another user, client or channel")


def _time(claims: Mapping[str, Any], name: str, default: float) -> float:
    value = claims.get(name, default)
    # The bound leaves out what is no time, among it infinity and NaN.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LATEST:
        raise InvalidToken(f"{name} must be a number of seconds since the epoch")
    return float(value)


def _info(claims: Mapping[str, Any]) -> str:
    if "info" in claims:
        try:
            return json.dumps(claims["info"], separators=(",", ":"), allow_nan=False)
        except (ValueError, RecursionError):
            raise InvalidToken("info must be JSON, not too deep; infinity and NaN are not") from None
    if "b64info" not in claims:
        return ""
    try:
        raw = base64.b64decode(claims["b64info"], validate=True)
        return one_line(bytes(msgspec.json.decode(raw, type=msgspec.Raw)))
    except (TypeError, binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidToken("b64info must be base64 of JSON") from None
