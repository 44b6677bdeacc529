"""Tokens for trying things out. In production the application that signs its users in issues them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jwt

from config.sections import AuthSettings

NONE: Mapping[str, Any] = MappingProxyType({})


class TokenError(ValueError):
    """No token can be issued; says why and what to do."""


def issue_token(
    auth: AuthSettings,
    user_id: str,
    *,
    seconds: float,
    session_id: str | None = None,
    claims: Mapping[str, Any] = NONE,
    now: float | None = None,
) -> str:
    """Sign a connection token (JWT, RFC 7519) that a gateway with these settings accepts.

    Args:
        auth: settings with algorithm HS256 and its secret.
        user_id: `sub`.
        seconds: how long the token is valid, from now.
        session_id: the session claim; a random one if not given, because one token is one sign-in.
        claims: further claims, such as those that rules on modes read.
        now: seconds since the epoch; default: the system's time.

    Raises:
        TokenError: only HS256 tokens can be signed here, or `claims` has one that the settings or arguments decide.
    """
    if auth.algorithm != "HS256":
        raise TokenError(
            f"tokens of {auth.algorithm} are signed with a private key, which the gateway does not have: "
            "issue them where it is kept"
        )
    if auth.hmac_secret is None:
        raise TokenError("auth.hmac_secret is not set: set BULKHEAD_AUTH__HMAC_SECRET, or use --profile development")
    issued_at = int(time.time() if now is None else now)
    decided: dict[str, Any] = {
        "sub": user_id,
        "iat": issued_at,
        "exp": issued_at + int(seconds),
        auth.session_claim: session_id or uuid.uuid4().hex,
    }
    if auth.audience:
        decided["aud"] = auth.audience[0]
    if auth.issuer is not None:
        decided["iss"] = auth.issuer
    if taken := sorted(decided.keys() & claims.keys()):
        raise TokenError(f"claim {', '.join(taken)} is decided by the settings and options")
    return jwt.encode({**claims, **decided}, auth.hmac_secret.get_secret_value(), algorithm="HS256")
