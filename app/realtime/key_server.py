"""The keys of an identity provider, fetched from where it serves them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import jwt

from app.realtime.authentication import NO_KEY, InvalidToken, KeysUnavailable, kid_of
from app.realtime.clock import Clock

COOLDOWN = 30.0  # seconds: who makes up a `kid` shall not make the gateway ask again and again
RETRY = 1.0  # seconds after a failure, while there are no keys that may be used
PATIENCE = 5.0  # seconds, well within those until `connect` must have come: to be late for that is final


class RemoteKeySet:
    """A JSON Web Key Set (RFC 7517) at an address, fetched off the event loop, one fetch at a time.

    It is used for `ttl` seconds. Meanwhile a key that is in it is found without waiting, whatever a fetch does, and an
    unknown `kid` fetches it again at most every 30 seconds, whether or not that succeeds.

    Args:
        url: the address.
        ttl: seconds.
        clock: what decides how old it is.
    """

    def __init__(self, url: str, ttl: float, clock: Clock) -> None:
        """Nothing is fetched yet."""
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=PATIENCE - 1)
        self._ttl = ttl
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = self._asked_at = -math.inf
        self._failure = ""
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, token: str) -> Any:
        """See `KeySource.key`; waits for 5 seconds at most."""
        kid = kid_of(token)
        found = self._find(kid)
        if found is None and kid:
            await self._ask()
            found = self._find(kid)
        if found is not None:
            return found
        if kid and (self._fetching or self._failure or not self._usable()):
            # It may be one that could not be fetched yet.
            raise KeysUnavailable(f"no keys from auth.jwks_url: {self._failure or 'it takes too long'}")
        raise InvalidToken(NO_KEY)

    def _usable(self) -> bool:
        return self._clock.monotonic() < self._fetched_at + self._ttl

    def _find(self, kid: str) -> jwt.PyJWK | None:
        return self._keys.get(kid) if self._usable() else None

    async def _ask(self) -> None:
        if self._fetching is None:
            now = self._clock.monotonic()
            pause = COOLDOWN if self._usable() else RETRY if self._failure else 0.0
            if now < self._asked_at + pause:
                return
            self._asked_at = now
            self._fetching = asyncio.create_task(self._fetch())
        await asyncio.wait((self._fetching,), timeout=PATIENCE)  # which goes on for others if this one is cancelled

    async def _fetch(self) -> None:
        try:
            keys = await asyncio.to_thread(self._client.get_signing_keys)
        except (jwt.PyJWTError, OSError, ValueError, RecursionError) as error:
            self._failure = type(error).__name__
        else:
            self._failure = ""
            self._fetched_at = self._clock.monotonic()
            self._keys = {str(key.key_id): key for key in reversed(keys)}  # of keys with one `kid`, the first
        finally:
            self._fetching = None
