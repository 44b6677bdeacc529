"""The `history` command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clock import ManualClock
from tests.engine.server import StandAlone
from tests.gateway import QUIET, Client, build_container, serving, token


@asynccontextmanager
async def filled(count: int = 5, **settings: Any) -> AsyncIterator[tuple[Client, str]]:
    """A client, whose channel `news` holds the data 1 to `count`, and the epoch of that."""
    async with serving(build_container(**settings)) as gateway, gateway.connected("alice") as client:
        for number in range(1, count + 1):
            await client.result("publish", {"channel": "news", "data": number})
        yield client, (await client.result("history", {"channel": "news"}))["epoch"]


def data(result: dict[str, Any]) -> list[Any]:
    """Data of the publications of a result."""
    return [publication["data"] for publication in result.get("publications", ())]


async def test_history_gives_what_was_asked_for_and_always_the_top() -> None:
    cases: tuple[tuple[dict[str, Any], list[int]], ...] = (
        ({}, []),
        ({"limit": 0}, []),
        ({"limit": 2}, [1, 2]),
        ({"limit": 5}, [1, 2, 3, 4, 5]),
        ({"limit": 100}, [1, 2, 3, 4, 5]),
        ({"limit": -1}, [1, 2, 3, 4, 5]),
        ({"limit": -1, "reverse": True}, [5, 4, 3, 2, 1]),
        ({"limit": 2, "reverse": True}, [5, 4]),
        ({"limit": -1, "since": {"offset": 2}}, [3, 4, 5]),
        ({"limit": 1, "since": {"offset": 2}}, [3]),
        ({"limit": 0, "since": {"offset": 2}}, []),
        ({"limit": -1, "since": {}}, [1, 2, 3, 4, 5]),
        ({"limit": -1, "since": {"offset": 5}}, []),
        ({"limit": -1, "since": {"offset": 99}}, []),
        ({"limit": -1, "since": {"offset": 4}, "reverse": True}, [3, 2, 1]),
        ({"limit": 2, "since": {"offset": 4}, "reverse": True}, [3, 2]),
        ({"limit": -1, "since": {"offset": 1}, "reverse": True}, []),
    )
    async with filled() as (client, epoch):
        for asked, expected in cases:
            since = {"since": {**asked["since"], "epoch": epoch}} if "since" in asked else {}
            result = await client.result("history", {"channel": "news", **asked, **since})
            assert data(result) == expected, asked
            assert (result["epoch"], result["offset"]) == (epoch, 5)


async def test_a_publication_of_the_history_is_what_subscribers_got() -> None:
    async with filled(0) as (client, _):
        await client.result("subscribe", {"channel": "news"})
        await client.result("publish", {"channel": "news", "data": {"a": [1, None]}})
        live = (await client.push())["pub"]
        assert (await client.result("history", {"channel": "news", "limit": 1}))["publications"] == [live]


async def test_another_epoch_is_error_112() -> None:
    async with filled() as (client, _):
        error = await client.error(
            "history", {"channel": "news", "limit": -1, "since": {"offset": 2, "epoch": "other"}}
        )
        assert error == {"code": 112, "message": "unrecoverable position"}


async def test_an_empty_epoch_fits_any() -> None:
    async with filled() as (client, _):
        assert data(await client.result("history", {"channel": "news", "limit": -1, "since": {"offset": 3}})) == [4, 5]


async def test_what_makes_no_sense_is_error_107() -> None:
    async with filled() as (client, _):
        for asked in ({"reverse": True, "since": {}}, {"reverse": True, "since": {"offset": 0}}, {"limit": -2}):
            error = await client.error("history", {"channel": "news", **asked})
            assert error == {"code": 107, "message": "bad request"}


async def test_the_history_of_an_empty_channel_has_an_epoch_that_holds_for_what_comes() -> None:
    async with filled(0) as (client, epoch):
        result = await client.result("history", {"channel": "news", "limit": -1})
        assert result == {"epoch": epoch}
        await client.result("publish", {"channel": "news", "data": 1})
        since = {"offset": 0, "epoch": epoch}
        assert data(await client.result("history", {"channel": "news", "limit": -1, "since": since})) == [1]


async def test_history_keeps_as_much_and_as_long_as_configured() -> None:
    clock = ManualClock()
    settings = {"history": {"size": 3, "ttl": 60}, "ping": QUIET}
    async with filled(5, clock=clock, **settings) as (client, epoch):
        result = await client.result("history", {"channel": "news", "limit": -1})
        assert (data(result), result["offset"]) == ([3, 4, 5], 5)
        clock.advance(61)
        result = await client.result("history", {"channel": "news", "limit": -1})
        assert result == {"epoch": epoch, "offset": 5}


async def test_an_answer_that_would_not_fit_the_connections_queue_is_error_106() -> None:
    limits = {"queue_bytes": 20_000, "event_bytes": 5000}
    async with filled(0, limits=limits) as (client, _):
        for _ in range(5):
            await client.result("publish", {"channel": "news", "data": "x" * 4000})
        error = await client.error("history", {"channel": "news", "limit": -1})
        assert error["code"] == 106
        assert len(data(await client.result("history", {"channel": "news", "limit": 2}))) == 2


async def test_answers_that_together_would_not_fit_are_refused_and_the_connection_goes_on() -> None:
    async with filled(0, limits={"queue_bytes": 20_000, "event_bytes": 5000}) as (client, _):
        for _ in range(2):
            await client.result("publish", {"channel": "news", "data": "x" * 4000})
        asked = [{"id": 100 + n, "history": {"channel": "news", "limit": -1}} for n in range(5)]
        await client.send(*asked)
        replies = [await client.message() for _ in asked]
        assert [reply["id"] for reply in replies] == [100, 101, 102, 103, 104]
        assert "history" in replies[0]
        await client.nothing()


@pytest.mark.parametrize("offset", [-(10**25), -1, 2**63, 2**64 - 1, 10**25])
async def test_an_offset_that_no_stream_has_ends_the_connection(offset: int) -> None:
    commands: tuple[dict[str, Any], ...] = (
        {"id": 9, "history": {"channel": "news", "limit": -1, "since": {"offset": offset}}},
        {"id": 9, "subscribe": {"channel": "news", "recover": True, "offset": offset}},
        {"id": 9, "connect": {"token": token("alice"), "subs": {"#alice": {"recover": True, "offset": offset}}}},
    )
    async with serving() as gateway:
        for command in commands:
            async with gateway.connected("alice") as client:
                await client.send(command)
                code, reason = await client.closed()
                assert (code, reason.partition(":")[0]) == (3501, "bad request")
        assert gateway.container.metrics().failures() == 0


async def test_no_argument_of_a_client_is_an_internal_error_of_the_engine(valkey: str, tmp_path: Path) -> None:
    top = 2**63 - 1
    commands: tuple[tuple[str, dict[str, Any]], ...] = (
        ("history", {"channel": "news", "limit": 2**31 - 1, "since": {"offset": top}}),
        ("history", {"channel": "news", "limit": -1, "reverse": True, "since": {"offset": top}}),
        ("history", {"channel": "news", "limit": -1, "since": {"offset": 1, "epoch": "\n\0 é" * 4000}}),
        ("subscribe", {"channel": "one", "recover": True, "offset": top}),
        ("subscribe", {"channel": "two", "recover": True, "epoch": "\n\0 é" * 4000, "flag": 10**30}),
        ("publish", {"channel": "{x}\u202e%s%n\\", "data": "%s%d"}),
        ("presence", {"channel": "é" * 127}),
        ("unsubscribe", {"channel": "x" * 10_000}),
    )
    with StandAlone(valkey, tmp_path / "valkey") as server:
        async with serving(build_container(broker={"url": server.url})) as gateway:
            async with gateway.connected("alice") as alice:
                for method, request in commands:
                    reply = await alice.call(method, request)
                    assert reply.get("error", {}).get("code") != 100, (method, request)
            assert gateway.container.metrics().failures() == 0
