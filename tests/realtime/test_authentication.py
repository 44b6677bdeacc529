"""What tokens prove. How clients are told: tests/wire/test_tokens.py."""

from __future__ import annotations

import base64
from typing import Any

import jwt
import pytest

from app.realtime.authentication import (
    Authenticator,
    ExpiredToken,
    ForeignToken,
    InvalidToken,
    StaticKey,
)
from tests.clock import ManualClock
from tests.gateway import SECRET, token

NOW = 1_700_000_000.0


def authenticator(**options: Any) -> Authenticator:
    return Authenticator(
        **{
            "keys": StaticKey(SECRET),
            "algorithm": "HS256",
            "audience": (),
            "issuer": None,
            "leeway": 0.0,
            "session_claim": "sid",
            "clock": ManualClock(NOW),
            **options,
        }
    )


async def test_a_token_proves_user_session_and_claims() -> None:
    proven = await authenticator().authenticate(token("alice", sid="phone", tier="hipaa", groups=["a"]))
    assert (proven.context.user_id, proven.context.session_id) == ("alice", "phone")
    assert (proven.context.claims["tier"], proven.context.claims["groups"]) == ("hipaa", ("a",))
    assert (proven.expire_at, proven.info, proven.channels) == (None, "", ())
    elsewhere = await authenticator(session_claim="session").authenticate(token("alice", sid="x", session="y"))
    assert elsewhere.context.session_id == "y"


@pytest.mark.parametrize(
    ("claims", "expire_at"),
    [
        ({}, None),
        ({"exp": NOW + 5}, NOW + 5),
        ({"exp": NOW + 5, "expire_at": NOW + 90}, NOW + 90),
        ({"exp": NOW + 5, "expire_at": 0}, None),
        ({"expire_at": NOW + 90}, NOW + 90),
    ],
    ids=repr,
)
async def test_expire_at_overrules_exp_for_the_connection(claims: dict[str, Any], expire_at: float | None) -> None:
    assert (await authenticator().authenticate(token("alice", **claims))).expire_at == expire_at


@pytest.mark.parametrize(
    ("claims", "info"),
    [
        ({"info": {"name": "\u00e9"}}, '{"name":"\\u00e9"}'),
        ({"info": None}, "null"),
        ({"b64info": base64.b64encode(b'{"a": 1.0}').decode()}, '{"a": 1.0}'),
        ({"b64info": base64.b64encode(b"[1,\n2]").decode()}, "[1, 2]"),
        ({"info": 1, "b64info": "ignored"}, "1"),
    ],
    ids=repr,
)
async def test_info_is_json_on_one_line(claims: dict[str, Any], info: str) -> None:
    assert (await authenticator().authenticate(token("alice", **claims))).info == info


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"sub": ""}, "user_id is empty"),
        ({"sub": "a\n"}, "user_id contains control characters"),
        ({"sub": "alice", "sid": 7}, "session_id must be a string, got int"),
        ({"sub": "alice", "sid": ["a"]}, "session_id must be a string, got list"),
        ({}, "no identity"),
        ({"sub": "alice", "channel": "news"}, "this is a subscription token"),
        ({"sub": "alice", "channels": "news"}, "channels must be a list of names"),
        ({"sub": "alice", "channels": [""]}, "channels is empty"),
        ({"sub": "alice", "channels": [7]}, "channels must be a string"),
        ({"sub": "alice", "subs": ["news"]}, "subs must map channels to options"),
        ({"sub": "alice", "subs": {"a\n": {}}}, "channels contains control characters"),
        ({"sub": "alice", "exp": None}, "exp must be a number"),
        ({"sub": "alice", "exp": True}, "exp must be a number"),
        ({"sub": "alice", "exp": 10**400}, "exp must be a number"),
        ({"sub": "alice", "exp": float("inf")}, "exp must be a number"),
        ({"sub": "alice", "exp": float("nan")}, "exp must be a number"),
        ({"sub": "alice", "expire_at": "soon"}, "expire_at must be a number"),
        ({"sub": "alice", "nbf": [0]}, "nbf must be a number"),
        ({"sub": "alice", "nbf": NOW + 1}, "the token is not valid yet"),
        ({"sub": "alice", "info": float("nan")}, "info must be JSON"),
        ({"sub": "alice", "b64info": "%"}, "b64info must be base64 of JSON"),
        ({"sub": "alice", "b64info": 7}, "b64info must be base64 of JSON"),
        ({"sub": "alice", "b64info": base64.b64encode(b"{").decode()}, "b64info must be base64 of JSON"),
    ],
    ids=repr,
)
async def test_a_claim_of_the_wrong_shape_proves_nothing(claims: dict[str, Any], why: str) -> None:
    signed = jwt.encode(claims, SECRET, algorithm="HS256") if isinstance(claims.get("sub", ""), str) else ""
    with pytest.raises(InvalidToken, match=why) as refused:
        await authenticator().authenticate(signed)
    assert refused.value.why == str(refused.value)


async def test_channels_and_subs_name_each_channel_once() -> None:
    proven = await authenticator().authenticate(token("alice", channels=["a", "b", "a"], subs={"b": {}, "c": {}}))
    assert proven.channels == ("a", "b", "c")


async def test_a_token_is_good_until_it_expires_by_the_injected_clock_and_its_leeway() -> None:
    clock = ManualClock(NOW)
    strict, lenient = authenticator(clock=clock), authenticator(clock=clock, leeway=10.0)
    proof = token("alice", exp=NOW + 5, nbf=NOW - 5)
    await strict.authenticate(proof)
    clock.advance(5)
    with pytest.raises(ExpiredToken, match="get a fresh one"):
        await strict.authenticate(proof)
    await lenient.authenticate(proof)
    clock.advance(10)
    with pytest.raises(ExpiredToken):
        await lenient.authenticate(proof)
    await lenient.authenticate(token("alice", nbf=clock.time() + 10))


async def test_without_a_key_no_token_is_accepted() -> None:
    with pytest.raises(InvalidToken, match="no key is configured"):
        await authenticator(keys=None).authenticate(token("alice"))


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
async def test_a_token_cannot_choose_its_algorithm(algorithm: str) -> None:
    key: Any = None if algorithm == "none" else SECRET * 2
    with pytest.raises(InvalidToken, match="the token does not verify: InvalidAlgorithmError"):
        await authenticator().authenticate(jwt.encode({"sub": "alice"}, key, algorithm=algorithm))


GRANT = {"user_id": "alice", "client": "c1", "channel": "news"}


@pytest.mark.parametrize(
    ("user", "claims", "proves"),
    [
        ("alice", {"channel": "news"}, True),
        ("alice", {"channel": "news", "client": "c1"}, True),
        ("alice", {"channel": "news", "client": "c2"}, False),
        ("alice", {"channel": "other"}, False),
        ("bob", {"channel": "news"}, False),
        (None, {"channel": "news"}, False),
    ],
)
async def test_a_subscription_token_is_for_one_user_channel_and_client(
    user: str | None, claims: dict[str, Any], proves: bool
) -> None:
    if proves:
        assert (await authenticator().authenticate_subscription(token(user, **claims), **GRANT)).expire_at is None
    else:
        with pytest.raises(ForeignToken, match="for another user, client or channel"):
            await authenticator().authenticate_subscription(token(user, **claims), **GRANT)


async def test_a_subscription_token_needs_a_channel_and_expires() -> None:
    for claims in ({}, {"channel": ""}):
        with pytest.raises(InvalidToken, match="needs a channel"):
            await authenticator().authenticate_subscription(token("alice", **claims), **GRANT)
    granted = await authenticator().authenticate_subscription(token("alice", channel="news", exp=NOW + 9), **GRANT)
    assert granted.expire_at == NOW + 9
    with pytest.raises(ExpiredToken):
        await authenticator().authenticate_subscription(token("alice", channel="news", exp=NOW), **GRANT)
