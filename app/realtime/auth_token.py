"""The manager's own token: proof that the container built it for this user key."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets


class AuthToken:
    """Issued by a `TokenIssuer` for one user key; an object of its own for every manager, and never equal to another.

    Nothing of it is secret to its holder, but it cannot be made without the issuer's secret. It has no readable form:
    `repr` shows the key alone.
    """

    __slots__ = ("__weakref__", "_mac", "_nonce", "key")

    def __init__(self, key: str, nonce: bytes, mac: bytes) -> None:
        """Made by `TokenIssuer.issue`; a token made otherwise does not verify."""
        self.key = key
        self._nonce = nonce
        self._mac = mac

    def __repr__(self) -> str:
        """Without the secret parts."""
        return f"<AuthToken for {self.key!r}>"

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied: one manager, one token."""
        raise TypeError("an AuthToken belongs to one manager and cannot be copied")


class InvalidAuthToken(Exception):
    """A manager was to be built without the container's token for its user key.

    Attributes:
        key: user key of the manager.
        why: what is wrong with the token.
    """

    def __init__(self, key: str, why: str) -> None:
        """Keep what happened."""
        super().__init__(f"no manager for {key!r}: {why}; get managers from container.manager(context)")
        self.key = key
        self.why = why


class TokenIssuer:
    """Issues and verifies tokens with a secret of its own, so that another container's do not verify here."""

    __slots__ = ("__weakref__", "_keyed", "_serials")

    def __init__(self) -> None:
        """Draw the secret. It never leaves this object."""
        # Keyed once and copied for every token: preparing the key costs more than signing so little.
        self._keyed = hmac.new(secrets.token_bytes(32), digestmod=hashlib.sha256)
        self._serials = itertools.count(1)

    def issue(self, key: str) -> AuthToken:
        """A new token for one user key."""
        # What makes a token differ from all others need not be secret, so it need not be drawn.
        nonce = next(self._serials).to_bytes(8, "big")
        return AuthToken(key, nonce, self._sign(key, nonce))

    def verify(self, token: object, key: str) -> AuthToken:
        """The token, if this issuer made it for this key.

        Raises:
            InvalidAuthToken: it is none, another key's, or made elsewhere.
        """
        if not isinstance(token, AuthToken):
            raise InvalidAuthToken(key, f"it needs an AuthToken, got {type(token).__name__}")
        if token.key != key:
            raise InvalidAuthToken(key, "the AuthToken was issued for another user key")
        if not hmac.compare_digest(token._mac, self._sign(key, token._nonce)):
            raise InvalidAuthToken(key, "the AuthToken was not issued by this container")
        return token

    def _sign(self, key: str, nonce: bytes) -> bytes:
        signing = self._keyed.copy()
        signing.update(nonce + key.encode())
        return signing.digest()
