"""Remote procedure calls and messages, answered by handlers of the application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dependency_injector import providers

from app.realtime.manager import UserManager
from app.realtime.rpc import RPCError, RPCHandler
from containers import GatewayContainer
from tests.clock import ManualClock
from tests.gateway import build_container, eventually, serving
from tests.http.modes import set_mode
from tests.wire.faulty import make_faulty
from tests.wire.pings import first_ping


def container_with(settings: dict[str, Any] | None = None, /, **handlers: RPCHandler) -> GatewayContainer:
    """A container with these handlers, each under its name."""
    container = build_container(**(settings or {}))
    container.rpc.add_kwargs({name: providers.Object(handler) for name, handler in handlers.items()})
    return container


async def whoami(manager: UserManager, data: Any) -> Any:
    """Says whose manager it was given, and what."""
    return {"key": manager.key, "data": data}


async def test_a_handler_gets_the_callers_manager_and_data_and_its_result_is_the_reply() -> None:
    async with serving(container_with(whoami=whoami)) as gateway:
        for user in ("alice", "bob"):
            async with gateway.connected(user) as client:
                result = await client.result("rpc", {"method": "whoami", "data": {"a": [1, None, "ä"]}})
                assert result == {"data": {"key": f"user:{user}", "data": {"a": [1, None, "ä"]}}}
                assert (await client.result("rpc", {"method": "whoami"}))["data"]["data"] is None


async def test_a_handler_emits_to_its_caller_alone() -> None:
    async def greet(manager: UserManager, data: Any) -> None:
        await manager.emit("greeting", data)

    async with serving(container_with(greet=greet)) as gateway:
        async with (
            gateway.connected("alice") as one,
            gateway.connected("alice") as two,
            gateway.connected("bob") as bob,
        ):
            assert await one.result("rpc", {"method": "greet", "data": "hi"}) == {"data": None}
            for client in (one, two):
                assert (await client.push())["pub"]["data"]["data"] == "hi"
            await bob.nothing()


async def test_what_a_handler_needs_is_injected_by_the_container() -> None:
    async def read(prices: dict[str, int], manager: UserManager, data: Any) -> int:
        return prices[data]

    container = build_container()
    container.rpc.add_kwargs(price=providers.Callable(lambda: lambda manager, data: read({"tea": 3}, manager, data)))
    async with serving(container) as gateway, gateway.connected("alice") as client:
        assert await client.result("rpc", {"method": "price", "data": "tea"}) == {"data": 3}


async def test_an_unknown_method_is_error_104() -> None:
    async with serving(container_with(whoami=whoami)) as gateway, gateway.connected("alice") as client:
        for request in ({}, {"method": ""}, {"method": "Whoami"}, {"method": "__class__"}):
            assert await client.error("rpc", request) == {"code": 104, "message": "method not found"}


async def test_an_error_of_the_application_reaches_the_caller() -> None:
    async def fail(manager: UserManager, data: Any) -> None:
        raise RPCError(data, "out of tea", temporary=data == 500)

    async with serving(container_with(fail=fail)) as gateway, gateway.connected("alice") as client:
        error = await client.error("rpc", {"method": "fail", "data": 400})
        assert error == {"code": 400, "message": "out of tea"}
        error = await client.error("rpc", {"method": "fail", "data": 500})
        assert error == {"code": 500, "message": "out of tea", "temporary": True}
        for outside in (399, 2000, 100):
            assert (await client.error("rpc", {"method": "fail", "data": outside}))["code"] == 100


async def test_an_exception_is_error_100_and_leaves_no_payload_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(manager: UserManager, data: Any) -> None:
        raise LookupError(f"not found: {data}")

    async def unencodable(manager: UserManager, data: Any) -> Any:
        return object()

    async with serving(container_with(crash=crash, unencodable=unencodable)) as gateway:
        async with gateway.connected("alice") as client:
            for method in ("crash", "unencodable"):
                error = await client.error("rpc", {"method": method, "data": "a-secret-of-alice"})
                assert error == {"code": 100, "message": "internal server error", "temporary": True}
            await client.nothing()
    assert "LookupError" in caplog.text
    assert "a-secret-of-alice" not in caplog.text


@pytest.mark.parametrize(("mode", "code"), [("emergency", 1503), ("degraded", 111)])
async def test_a_handler_that_may_not_publish_answers_as_a_publish_of_the_client(
    mode: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    called, release = asyncio.Event(), asyncio.Event()

    async def emit(manager: UserManager, data: Any) -> None:
        called.set()
        await release.wait()
        await manager.emit("greeting", data)

    container = container_with({"modes": {"buffer_bytes": 600, "buffer_bytes_per_user": 600}}, emit=emit)
    async with serving(container) as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await alice.send({"id": 100, "rpc": {"method": "emit", "data": "x" * 1000}})
        await called.wait()
        await set_mode(api, mode, "alice")
        release.set()
        error = (await alice.message(lambda message: message.get("id") == 100))["error"]
        assert (error["code"], error["temporary"]) == (code, True)
        assert error == await alice.error("publish", {"channel": "news", "data": "x" * 1000})
    assert "an RPC handler raised" not in caplog.text


async def test_calls_run_at_once_up_to_a_limit_and_one_more_is_a_temporary_error() -> None:
    release = asyncio.Event()

    async def wait(manager: UserManager, data: Any) -> Any:
        await release.wait()
        return data

    container = container_with({"limits": {"concurrent_rpcs": 3}}, wait=wait)
    async with serving(container) as gateway, gateway.connected("alice") as client, gateway.connected("bob") as bob:
        for number in range(3):
            await client.send({"id": 100 + number, "rpc": {"method": "wait", "data": number}})
        error = await client.error("rpc", {"method": "wait"})
        assert (error["code"], error["temporary"]) == (111, True)
        answered = asyncio.create_task(bob.result("rpc", {"method": "wait", "data": "bob"}))
        release.set()
        assert await answered == {"data": "bob"}
        replies = [await client.message() for _ in range(3)]
        assert [(reply["id"], reply["rpc"]["data"]) for reply in replies] == [(100, 0), (101, 1), (102, 2)]
        assert await client.result("rpc", {"method": "wait", "data": "again"}) == {"data": "again"}


async def test_a_slow_call_holds_up_neither_pings_nor_events_nor_other_calls() -> None:
    release, clock = asyncio.Event(), ManualClock()

    async def wait(manager: UserManager, data: Any) -> None:
        await release.wait()

    container = container_with({"ping": {"interval": 25, "timeout": 24}}, wait=wait, whoami=whoami)
    container.clock.override(providers.Object(clock))
    async with serving(container) as gateway, gateway.connected("alice") as client:
        await client.send({"id": 100, "rpc": {"method": "wait"}})
        assert (await client.result("rpc", {"method": "whoami"}))["data"]["key"] == "user:alice"
        await first_ping(clock, client)
        for _ in range(3):
            await client.send("{}")
            await client.error("no_such_method")
            clock.advance(25)
            await client.ping()
        await gateway.container.publisher().publish_to_user("alice", "note", 1)
        await client.push()
        release.set()
        assert await client.message() == {"id": 100, "rpc": {"data": None}}


async def test_calls_end_with_their_connection() -> None:
    ended = asyncio.Event()

    async def wait(manager: UserManager, data: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(container_with(wait=wait)) as gateway:
        async with gateway.connected("alice") as client:
            await client.send({"id": 100, "rpc": {"method": "wait"}})
            await client.error("no_such_method")
        await asyncio.wait_for(ended.wait(), 5)
        await eventually(lambda: gateway.container.manager.count() == 0)


async def test_a_message_is_handled_without_a_reply() -> None:
    got: list[Any] = []

    async def send(manager: UserManager, data: Any) -> str:
        got.append((manager.key, data))
        return "nobody hears this"

    async with serving(container_with(send=send)) as gateway, gateway.connected("alice") as client:
        await client.send({"send": {"data": {"a": 1}}})
        await client.nothing()
        assert got == [("user:alice", {"a": 1})]


async def test_a_message_that_nobody_handles_is_dropped() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.send({"send": {"data": 1}})
        await client.nothing()


async def test_a_command_that_fails_for_an_unknown_reason_leaves_no_payload_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    container = build_container()
    faulty = make_faulty(container)

    async def crash() -> None:
        raise LookupError("a-secret-of-alice")

    async with serving(container) as gateway, gateway.connected("alice") as client:
        faulty.before["publish"] = crash
        error = await client.error("publish", {"channel": "news", "data": "a-secret-of-alice"})
        assert error == {"code": 100, "message": "internal server error", "temporary": True}
        await client.nothing()
    assert "LookupError" in caplog.text
    assert "a-secret-of-alice" not in caplog.text
