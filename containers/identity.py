"""How the part is made that says who a client is: what verifies tokens, with the keys that are configured."""

from __future__ import annotations

import json

from app.realtime.authentication import Authenticator, KeySet, KeySource, StaticKey
from app.realtime.clock import Clock
from app.realtime.key_server import RemoteKeySet
from config import Settings


def authenticator(settings: Settings, clock: Clock) -> Authenticator:
    """What verifies tokens, with the keys that are configured."""
    auth = settings.auth
    return Authenticator(
        keys=_key_source(settings, clock),
        algorithm=auth.algorithm,
        audience=auth.audience,
        issuer=auth.issuer,
        leeway=auth.leeway,
        session_claim=auth.session_claim,
        clock=clock,
    )


def _key_source(settings: Settings, clock: Clock) -> KeySource | None:
    auth = settings.auth
    if auth.jwks_url is not None:
        return RemoteKeySet(str(auth.jwks_url), auth.jwks_ttl, clock)
    if auth.jwks_file is not None:
        return KeySet(json.loads(auth.jwks_file.read_text()))
    if auth.public_key is not None:
        return StaticKey(auth.public_key)
    if auth.hmac_secret is not None:
        return StaticKey(auth.hmac_secret.get_secret_value())
    return None
