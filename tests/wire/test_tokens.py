"""What a connection token must prove, and with which key."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app import create_app
from app.dependencies import CurrentUser
from app.testing import serve
from tests.clock import ManualClock
from tests.gateway import QUIET, SECRET, RunningGateway, build_container, serving, token

NOW = 1_700_000_000
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


async def outcome(gateway: RunningGateway, sent: str) -> int:
    """0 if a client with this token is connected, the code of the error or of the close if not."""
    async with gateway.client() as client:
        await client.send({"id": 1, "connect": {"token": sent}})
        closing = asyncio.create_task(client.socket.wait_closed())
        reply = asyncio.create_task(client.message())
        await asyncio.wait((closing, reply), return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if reply.done() and reply.exception() is None:
            error: dict[str, int] = reply.result().get("error", {"code": 0})
            return error["code"]
        reply.cancel()
        await asyncio.wait((reply,))
        return client.socket.close_code or 0


async def test_claims_decide_whether_a_token_connects() -> None:
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({}, 0),
        ({"exp": NOW + 1}, 0),
        ({"exp": NOW}, 109),
        ({"exp": NOW - 1}, 109),
        ({"exp": 0}, 109),
        ({"nbf": NOW}, 0),
        ({"nbf": NOW + 1}, 3500),
        ({"exp": "soon"}, 3500),
        ({"exp": True}, 3500),
        ({"nbf": []}, 3500),
        ({"exp": None}, 3500),
        ({"exp": NOW - 1, "nbf": NOW + 1}, 3500),
        ({"iat": NOW + 1000}, 0),
        ({"aud": "anyone"}, 0),
        ({"iss": "anyone"}, 0),
        ({"channel": "news"}, 3500),
        ({"channel": ""}, 3500),
        ({"channels": "news"}, 3500),
        ({"channels": [1]}, 3500),
        ({"channels": [""]}, 3500),
        ({"subs": ["news"]}, 3500),
        ({"expire_at": "soon"}, 3500),
        ({"sid": 1}, 3500),
        ({"sid": ""}, 3500),
        ({"b64info": "?"}, 3500),
        ({"b64info": base64.b64encode(b"{").decode()}, 3500),
        ({"b64info": 1}, 3500),
        ({"b64info": base64.b64encode(b'"\xff"').decode()}, 3500),
        ({"b64info": base64.b64encode(b"[" * 20_000).decode()}, 3500),
        ({"b64info": base64.b64encode(b"null").decode()}, 0),
        ({"info": float("inf")}, 3500),
        ({"info": None}, 0),
        ({"meta": {"a": [1]}}, 0),
    )
    async with serving(build_container(clock=ManualClock(NOW))) as gateway:
        outcomes = [(claims, await outcome(gateway, token("alice", **claims))) for claims, _ in cases]
        assert outcomes == list(cases)


async def test_leeway_forgives_clocks_that_differ() -> None:
    container = build_container(clock=ManualClock(NOW), auth={"hmac_secret": SECRET, "leeway": 10})
    async with serving(container) as gateway:
        assert await outcome(gateway, token("alice", exp=NOW - 9)) == 0
        assert await outcome(gateway, token("alice", exp=NOW - 10)) == 109
        assert await outcome(gateway, token("alice", nbf=NOW + 10)) == 0
        assert await outcome(gateway, token("alice", nbf=NOW + 11)) == 3500


async def test_audience_and_issuer_are_required_where_they_are_configured() -> None:
    auth = {"hmac_secret": SECRET, "audience": ("chat", "mail"), "issuer": "us"}
    async with serving(build_container(auth=auth)) as gateway:
        assert await outcome(gateway, token("alice", aud="chat", iss="us")) == 0
        assert await outcome(gateway, token("alice", aud=["x", "mail"], iss="us")) == 0
        for claims in ({"iss": "us"}, {"aud": "chat"}, {"aud": "x", "iss": "us"}, {"aud": "chat", "iss": "them"}):
            assert await outcome(gateway, token("alice", **claims)) == 3500


async def test_a_token_that_expired_gets_error_109_and_a_fresh_one_connects_on_the_same_connection() -> None:
    async with serving(build_container(clock=ManualClock(NOW))) as gateway, gateway.client() as client:
        error = await client.error("connect", {"token": token("alice", exp=NOW - 1)})
        assert error == {"code": 109, "message": "token expired"}
        result = await client.result("connect", {"token": token("alice", exp=NOW + 60)})
        assert list(result["subs"]) == ["#alice"]


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    """A token put together by hand."""
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join((*parts, signature))


def signed_by_hand(payload: bytes) -> str:
    """A token with a good signature of whatever the payload is."""
    return jwt.api_jws.encode(payload, SECRET, algorithm="HS256")


async def test_a_forged_token_is_closed_with_3500() -> None:
    head, _, signature = token("alice").split(".")
    other_payload = token("bob").split(".")[1]
    forged = {
        "another secret": token("alice", secret="x" * 32),
        "no signature": unsigned({"alg": "HS256", "typ": "JWT"}, {"sub": "alice"}),
        "none": unsigned({"alg": "none"}, {"sub": "alice"}),
        "None": unsigned({"alg": "None"}, {"sub": "alice"}),
        "no algorithm": unsigned({"typ": "JWT"}, {"sub": "alice"}, signature),
        "another algorithm": jwt.encode({"sub": "alice"}, SECRET * 2, algorithm="HS512"),
        "HS384 with the same secret": jwt.encode({"sub": "alice"}, SECRET * 2, algorithm="HS384"),
        "another payload": f"{head}.{other_payload}.{signature}",
        "garbage": "garbage",
        "dots": "..",
        "spaces": f" {token('alice')}",
        "a line break": f"{token('alice')}\n",
        "not ASCII": "ä.ö.ü",
        "long": "a" * 60_000,
        "deep": signed_by_hand(b"[" * 40_000),
        "no claims": unsigned({"alg": "HS256"}, {}, signature),
        "a subject that is no string": jwt.encode({"sub": 7}, SECRET, algorithm="HS256"),
    }
    async with serving() as gateway:
        outcomes = {name: await outcome(gateway, sent) for name, sent in forged.items()}
        assert outcomes == dict.fromkeys(forged, 3500)
        assert gateway.container.manager.count() == 0


async def test_info_of_any_depth_connects_or_proves_nothing() -> None:
    async with serving() as gateway:
        for depth in range(100, 1100, 25):
            nested = b'{"sub":"alice","info":' + b"[" * depth + b"]" * depth + b"}"
            assert await outcome(gateway, signed_by_hand(nested)) in (0, 3500), depth


async def test_a_reason_never_repeats_the_token(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as gateway, gateway.client() as client:
        sent = token("very-secret-name", secret="y" * 32, channels=["secret-channel"])
        await client.send({"id": 1, "connect": {"token": sent}})
        _, reason = await client.closed()
        assert reason.startswith("invalid token")
        for leaked in ("very-secret", "secret-channel", sent.split(".")[2]):
            assert leaked not in reason + caplog.text


def private_key(algorithm: str) -> PrivateKey:
    """A fresh key of the algorithm."""
    match algorithm:
        case "RS256":
            return rsa.generate_private_key(65537, 2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_pem(key: PrivateKey) -> str:
    """Its public part."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_jwk(key: PrivateKey, kid: str) -> dict[str, Any]:
    """Its public part as an entry of a key set."""
    match key.public_key():
        case rsa.RSAPublicKey() as public:
            entry = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        case ec.EllipticCurvePublicKey() as public:
            entry = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
        case public:
            entry = jwt.algorithms.OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**entry, "kid": kid, "use": "sig"}


def signed(key: PrivateKey, algorithm: str, *, kid: str | None = None, user: str = "alice") -> str:
    """A token signed with a private key."""
    return jwt.encode({"sub": user}, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_public_key_verifies_tokens_of_its_private_key_alone(algorithm: str) -> None:
    key = private_key(algorithm)
    pem = public_pem(key)
    async with serving(build_container(auth={"algorithm": algorithm, "public_key": pem})) as gateway:
        assert await outcome(gateway, signed(key, algorithm)) == 0
        assert await outcome(gateway, signed(private_key(algorithm), algorithm)) == 3500
        assert await outcome(gateway, token("alice")) == 3500
        assert await outcome(gateway, unsigned({"alg": "none"}, {"sub": "alice"})) == 3500


async def test_a_public_key_is_never_taken_for_a_shared_secret() -> None:
    import hashlib
    import hmac

    pem = public_pem(private_key("RS256"))
    bare = unsigned({"alg": "HS256", "typ": "JWT"}, {"sub": "alice"}).removesuffix(".")
    mac = hmac.new(pem.encode(), bare.encode(), hashlib.sha256).digest()
    confused = f"{bare}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    async with serving(build_container(auth={"algorithm": "RS256", "public_key": pem})) as gateway:
        assert await outcome(gateway, confused) == 3500


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_key_set_file_is_asked_by_kid(algorithm: str, tmp_path: Path) -> None:
    one, two = private_key(algorithm), private_key(algorithm)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(one, "one"), public_jwk(two, "two")]}))
    async with serving(build_container(auth={"algorithm": algorithm, "jwks_file": path})) as gateway:
        assert await outcome(gateway, signed(one, algorithm, kid="one")) == 0
        assert await outcome(gateway, signed(two, algorithm, kid="two")) == 0
        for sent in (
            signed(one, algorithm, kid="two"),
            signed(one, algorithm, kid="three"),
            signed(one, algorithm),
            jwt.encode({"sub": "alice"}, SECRET, algorithm="HS256", headers={"kid": "one"}),
            "garbage",
        ):
            assert await outcome(gateway, sent) == 3500


def headers_that_no_library_takes(key: PrivateKey) -> Iterator[str]:
    """Tokens whose header breaks RFC 7515, some of them with a good signature."""
    for kid in (1, None, ["one"], {"one": 1}, True):
        yield unsigned({"alg": "ES256", "kid": kid}, {"sub": "alice"}, "AAAA")
    for crit in ([], "exp2", [1], ["exp2"]):
        yield jwt.encode({"sub": "alice"}, key, algorithm="ES256", headers={"kid": "one", "crit": crit, "exp2": 1})
    deep = base64.urlsafe_b64encode(b'{"alg":"ES256","kid":' + b"[" * 20_000).rstrip(b"=").decode()
    yield f"{deep}.e30.AAAA"


async def test_a_header_that_no_library_takes_is_closed_with_3500(tmp_path: Path) -> None:
    key = private_key("ES256")
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(key, "one")]}))
    async with key_server(public_jwk(key, "one")) as keys:
        for source in ({"jwks_file": path}, {"jwks_url": keys.url}):
            async with serving(build_container(auth={"algorithm": "ES256", **source})) as gateway:
                outcomes = [await outcome(gateway, sent) for sent in headers_that_no_library_takes(key)]
                assert outcomes == [3500] * 10


async def test_a_header_that_no_library_takes_is_401_to_http(tmp_path: Path) -> None:
    key = private_key("ES256")
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(key, "one")]}))
    container = build_container(auth={"algorithm": "ES256", "jwks_file": path})
    app = create_app(container)

    @app.get("/me")
    async def me(user: CurrentUser) -> str | None:
        return user.user_id

    async with serve(app) as url, RunningGateway(container, url).api() as client:
        for sent in headers_that_no_library_takes(key):
            refused = await client.get("/me", headers={"Authorization": f"Bearer {sent}"})
            assert (refused.status_code, refused.json()["type"]) == (401, "urn:bulkhead:problem:invalid-token")


@dataclass
class KeyServer:
    """Serves a key set over HTTP."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    answer: Callable[[], str] | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, when `release` is set."""
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        await self.release.wait()
        body = json.dumps({"keys": self.keys})
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        whole = f"{head}Connection: close\r\n\r\n{body}" if self.answer is None else self.answer()
        writer.write(whole.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def key_server(*keys: dict[str, Any]) -> AsyncIterator[KeyServer]:
    """A key server on loopback; it answers at once."""
    server = KeyServer(keys=list(keys))
    server.release.set()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/jwks.json"
    async with listener:
        yield server


async def test_a_key_set_url_is_fetched_once_for_many_tokens() -> None:
    key = private_key("ES256")
    async with key_server(public_jwk(key, "one")) as keys:
        container = build_container(auth={"algorithm": "ES256", "jwks_url": keys.url})
        async with serving(container) as gateway:
            outcomes = [await outcome(gateway, signed(key, "ES256", kid="one", user=f"user-{n}")) for n in range(5)]
            assert outcomes == [0] * 5
            assert keys.requests == 1
            forged = (
                signed(private_key("ES256"), "ES256", kid="one"),
                signed(key, "ES256", kid="unknown"),
                signed(key, "ES256", kid="unknown"),
                signed(key, "ES256"),
                "garbage",
            )
            assert [await outcome(gateway, sent) for sent in forged] == [3500] * 5
            assert keys.requests == 1, "unknown keys must not make the gateway ask again and again"


async def test_a_rotated_key_is_fetched_when_the_set_is_older_than_its_ttl() -> None:
    old, new = private_key("ES256"), private_key("ES256")
    async with key_server(public_jwk(old, "old")) as keys:
        container = build_container(auth={"algorithm": "ES256", "jwks_url": keys.url, "jwks_ttl": 0.05})
        async with serving(container) as gateway:
            assert await outcome(gateway, signed(old, "ES256", kid="old")) == 0
            keys.keys = [public_jwk(new, "new")]
            await asyncio.sleep(0.06)
            assert await outcome(gateway, signed(new, "ES256", kid="new")) == 0
            assert await outcome(gateway, signed(old, "ES256", kid="old")) == 3500


async def test_a_slow_key_server_holds_up_nobody_who_is_connected() -> None:
    key = private_key("ES256")
    async with key_server(public_jwk(key, "one")) as keys:
        container = build_container(auth={"algorithm": "ES256", "jwks_url": keys.url, "jwks_ttl": 0.05})
        async with serving(container) as gateway, gateway.client() as early, gateway.client() as late:
            await early.result("connect", {"token": signed(key, "ES256", kid="one")})
            await asyncio.sleep(0.06)
            keys.release.clear()
            connecting = asyncio.create_task(
                late.result("connect", {"token": signed(key, "ES256", kid="one", user="bob")})
            )
            begun = time.monotonic()
            for number in range(20):
                await gateway.container.publisher().publish_to_user("alice", "note", number)
                await early.push()
            assert time.monotonic() - begun < 1
            assert not connecting.done()
            keys.release.set()
            assert "#bob" in (await connecting)["subs"]


@pytest.mark.parametrize(
    "answer",
    [
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot JSON!",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        "",
    ],
    ids=["500", "not JSON", "cut short", "nothing"],
)
async def test_a_key_server_that_fails_lets_clients_try_again(answer: str) -> None:
    key = private_key("ES256")
    async with key_server(public_jwk(key, "one")) as keys:
        keys.answer = lambda: answer
        clock = ManualClock()
        container = build_container(clock=clock, auth={"algorithm": "ES256", "jwks_url": keys.url})
        async with serving(container) as gateway:
            assert await outcome(gateway, signed(key, "ES256", kid="one")) == 3004
            keys.answer = None
            assert await outcome(gateway, signed(key, "ES256", kid="one")) == 3004
            assert keys.requests == 1, "who tries again at once does not make the gateway ask again"
            clock.advance(1)
            assert await outcome(gateway, signed(key, "ES256", kid="one")) == 0


async def test_a_key_server_that_fails_is_a_503_to_http_and_not_the_callers_fault() -> None:
    key = private_key("ES256")
    async with key_server(public_jwk(key, "one")) as keys:
        clock = ManualClock()
        container = build_container(clock=clock, auth={"algorithm": "ES256", "jwks_url": keys.url})
        app = create_app(container)

        @app.get("/me")
        async def me(user: CurrentUser) -> str | None:
            return user.user_id

        bearer = {"Authorization": f"Bearer {signed(key, 'ES256', kid='one')}"}
        async with serve(app) as url, RunningGateway(container, url).api(**bearer) as client:
            keys.answer = lambda: ""
            refused = await client.get("/me")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["type"] == "urn:bulkhead:problem:keys-unavailable"
            keys.answer = None
            clock.advance(1)
            assert (await client.get("/me")).json() == "alice"


async def test_a_key_server_that_hangs_and_tokens_with_made_up_keys_keep_nobody_out() -> None:
    key, new = private_key("ES256"), private_key("ES256")
    clock = ManualClock()
    async with key_server(public_jwk(key, "one")) as keys:
        container = build_container(clock=clock, ping=QUIET, auth={"algorithm": "ES256", "jwks_url": keys.url})
        async with serving(container) as gateway, AsyncExitStack() as stack:
            assert await outcome(gateway, signed(key, "ES256", kid="one")) == 0
            clock.advance(31)
            keys.release.clear()
            mallories = [await stack.enter_async_context(gateway.client()) for _ in range(12)]
            for number, mallory in enumerate(mallories):
                made_up = unsigned({"alg": "ES256", "kid": f"made up {number}"}, {}, "AAAA")
                await mallory.send({"id": 1, "connect": {"token": made_up}})
            while keys.requests < 2:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.002)
            begun = time.monotonic()
            assert [await outcome(gateway, signed(key, "ES256", kid="one")) for _ in range(5)] == [0] * 5
            assert time.monotonic() - begun < 1
            assert await mallories[0].closed() == (3004, "internal server error")
            assert await outcome(gateway, signed(new, "ES256", kid="new")) == 3004, "it may be good, so: not for good"
            clock.advance(29 - 0.001)
            assert await outcome(gateway, signed(new, "ES256", kid="new")) == 3004
            assert keys.requests == 2, "a fetch that failed counts"
            keys.keys.append(public_jwk(new, "new"))
            keys.release.set()
            clock.advance(1.001)
            assert await outcome(gateway, signed(new, "ES256", kid="new")) == 0
            assert await outcome(gateway, signed(new, "ES256", kid="unknown")) == 3500


async def test_keys_that_cannot_be_had_for_another_token_end_no_connection() -> None:
    key = private_key("ES256")
    clock = ManualClock()
    async with key_server(public_jwk(key, "one")) as keys:
        container = build_container(clock=clock, ping=QUIET, auth={"algorithm": "ES256", "jwks_url": keys.url})
        async with serving(container) as gateway, gateway.client() as alice:
            await alice.result("connect", {"token": signed(key, "ES256", kid="one")})
            clock.advance(31)
            keys.answer = lambda: ""
            unknown = signed(key, "ES256", kid="unknown")
            temporary = {"code": 100, "message": "internal server error", "temporary": True}
            assert await alice.error("refresh", {"token": unknown}) == temporary
            assert await alice.error("subscribe", {"channel": "news", "token": unknown}) == temporary
        assert container.metrics().failures() == 0, "whose keys to ask for was the client's own choice"
