"""Frames: what goes in as one and what comes out as it came in."""

from __future__ import annotations

import json

import pytest

from app.realtime.protocol import VERSION
from tests.clock import ManualClock
from tests.gateway import Client, RunningGateway, build_container, serving, token

CONNECT = json.dumps({"id": 1, "connect": {"token": token("alice")}})


async def embedded(gateway: RunningGateway, data: str) -> str:
    """What a subscriber gets, letter for letter, for the data of a publication."""
    async with gateway.connected("alice") as alice:
        await alice.result("subscribe", {"channel": "news"})
        await alice.send(f'{{"id":9,"publish":{{"channel":"news","data":{data}}}}}')
        frame = await alice.frame()
        start = frame.index('"data":') + len('"data":')
        return frame[start : frame.index(',"info":')]


async def test_several_commands_in_one_frame_are_answered_in_order() -> None:
    async with serving() as gateway, gateway.client() as client:
        await client.send(
            CONNECT, {"id": 2, "subscribe": {"channel": "news"}}, {"id": 3, "presence_stats": {"channel": "news"}}
        )
        assert [(await client.message())["id"] for _ in range(3)] == [1, 2, 3]


async def test_one_failed_command_of_a_frame_does_not_stop_the_others() -> None:
    async with serving() as gateway, gateway.client() as client:
        await client.send(
            CONNECT, {"id": 2, "subscribe": {"channel": "#bob"}}, {"id": 3, "subscribe": {"channel": "news"}}
        )
        assert "connect" in await client.message()
        assert (await client.message())["error"]["code"] == 103
        assert "subscribe" in await client.message()


async def test_commands_behind_a_disconnect_are_not_carried_out() -> None:
    async with serving() as gateway, gateway.connected("alice") as other, gateway.client() as client:
        await other.result("subscribe", {"channel": "news"})
        await client.send(CONNECT, CONNECT, {"id": 3, "publish": {"channel": "news", "data": 1}})
        assert (await client.closed())[0] == 3501
        await other.nothing()


async def test_a_frame_that_is_no_command_is_closed_with_3501() -> None:
    frames = (
        "",
        "\n",
        CONNECT + "\n",
        "hello",
        "[]",
        "null",
        '"connect"',
        '{"id":1,"connect":[]}',
        '{"id":"1","connect":{}}',
        '{"id":1,"connect":{"token":1}}',
        '{"id":1,"connect":{}',
        '{"id":2147483648,"connect":{}}',
        '{"id":18446744073709551616,"connect":{}}',
        '{"id":1,"history":{"limit":18446744073709551616}}',
        '{"id":-1,"connect":{}}',
        '{"connect":{}}',
        '{"id":1,"connect":{"name":"\\ud800"}}',
        "[" * 30_000,
        '{"id":1,"rpc":{"data":' + "[" * 20_000 + "]" * 20_000 + "}}",
        '{"id":1,"unknown":' + "[" * 20_000 + "]" * 20_000 + "}",
    )
    async with serving() as gateway:
        for frame in frames:
            async with gateway.client() as client:
                await client.send(frame)
                code, reason = await client.closed()
                assert code == 3501, frame[:60]
                assert reason.startswith("bad request"), frame[:60]


@pytest.mark.parametrize("half", ["\\ud83d", "cut \\uD83D apart", "\\ude00", "\\ud83d\\ud83d\\ude00"])
async def test_half_an_emoji_is_error_107_of_that_command_alone(half: str) -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.send(
            {"id": 7, "subscribe": {"channel": "news"}},
            f'{{"id":8,"publish":{{"channel":"news","data":{{"text":"{half}"}}}}}}',
            f'{{"send":{{"data":"{half}"}}}}',
            f'{{"id":9,"rpc":{{"method":"m","data":"{half}"}}}}',
            {"id": 10, "publish": {"channel": "news", "data": 1}},
        )
        assert "subscribe" in await client.message()
        for number in (8, 9):
            reply = await client.message()
            assert (reply["id"], reply["error"]["code"]) == (number, 107)
            assert "half a surrogate pair" in reply["error"]["message"]
        assert (await client.push())["pub"]["data"] == 1
        await client.message()
        await client.nothing()
        await client.send(f'{{"id":11,"publish":{{"channel":"{half}"}}')
        assert (await client.closed())[0] == 3501, "that is no JSON"


async def test_a_binary_frame_is_closed_with_3506() -> None:
    async with serving() as gateway, gateway.client() as client:
        await client.socket.send(CONNECT.encode())
        assert await client.closed() == (3506, "inappropriate protocol: send text, not binary")


@pytest.mark.parametrize("fill", ["x", "ä"])
async def test_a_message_of_64_kib_passes_and_one_byte_more_is_closed_with_1009(fill: str) -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        head, tail = '{"id":7,"presence":{"channel":"c"},"filler":"', '"}'
        room = 65536 - len(head) - len(tail)
        filled = fill * (room // len(fill.encode())) + " " * (room % len(fill.encode()))
        await client.send(head + filled + tail)
        assert (await client.message())["id"] == 7
        await client.send(head + filled + " " + tail)
        assert (await client.closed())[0] == 1009


async def test_the_limit_of_a_message_is_a_setting() -> None:
    async with serving(build_container(limits={"message_bytes": 300})) as gateway, gateway.client() as client:
        await client.send(" " * 301)
        assert (await client.closed())[0] == 1009


async def test_fragments_make_one_frame() -> None:
    async with serving() as gateway, gateway.client() as client:
        await client.socket.send(iter([CONNECT[:9], CONNECT[9:30], CONNECT[30:]]))
        assert "connect" in await client.message()


async def test_data_reaches_subscribers_byte_for_byte() -> None:
    texts = (
        "1",
        "null",
        "true",
        '""',
        "{}",
        "[]",
        '{ "a" :\t1 ,"b":[ 1,2 ,  3 ] }',
        '{"a":1,"a":2}',
        '"ümläut 漢字 🎈"',
        '"\\u00fc\\ud83c\\udf88\\/ \\n\\r\\t\\b\\u0000\\u2028"',
        '"\u2028\u2029\u0085"',
        "12345678901234567890",
        "-123456789012345678901234567890.123456789012345678901234567890e-400",
        "1E400",
        "-0",
        "1.0",
    )
    async with serving() as gateway:
        assert [await embedded(gateway, text) for text in texts] == list(texts)


async def test_deeply_nested_data_is_embedded_and_harms_nobody() -> None:
    deep = "[" * 500 + "]" * 500
    async with serving() as gateway:
        assert await embedded(gateway, deep) == deep


async def test_a_missing_payload_is_null() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.result("subscribe", {"channel": "news"})
        await client.result("publish", {"channel": "news"})
        assert (await client.push())["pub"]["data"] is None


async def test_line_breaks_in_what_a_back_end_publishes_do_not_break_messages_apart() -> None:
    pretty = b'{\n  "text": "one\\ntwo",\r\n  "list": [\n 1,\r 2\n]\n}'
    async with serving() as gateway, gateway.connected("alice") as alice:
        manager = gateway.container.publisher()
        await manager.publish_to_user("alice", "note", pretty)
        frame = await alice.frame()
        assert "\n" not in frame
        assert "\r" not in frame
        assert '"data":{   "text": "one\\ntwo",    "list": [  1,  2 ] }' in frame


async def test_messages_that_wait_together_share_a_frame_one_on_each_line() -> None:
    async with serving() as gateway, gateway.connected("alice") as alice:
        for number in range(50):
            await gateway.container.publisher().publish_to_user("alice", "note", number)
        lines: list[str] = []
        frames = 0
        while len(lines) < 50:
            frames += 1
            lines += (await alice.frame()).split("\n")
        assert frames < 50
        assert [json.loads(line)["push"]["pub"]["offset"] for line in lines] == list(range(1, 51))


async def test_zero_values_are_left_out() -> None:
    clock = ManualClock(1_700_000_000.0)
    async with serving(build_container(clock=clock)) as gateway, gateway.client() as client:
        await client.send(CONNECT)
        connected = json.loads(await client.frame())
        name, epoch = connected["connect"]["client"], connected["connect"]["subs"]["#alice"]["epoch"]
        assert connected == {
            "id": 1,
            "connect": {
                "client": name,
                "version": VERSION,
                "data": {"mode": "unified"},
                "subs": {"#alice": {"recoverable": True, "epoch": epoch, "positioned": True}},
                "ping": 25,
                "pong": True,
                "time": 1_700_000_000_000,
            },
        }
        assert await exact(client, '{"id":2,"subscribe":{"channel":"c"}}', epoch="") == (
            '{"id":2,"subscribe":{"recoverable":true,"epoch":"","positioned":true}}'
        )
        assert await exact(client, '{"id":3,"history":{"channel":"c","limit":5}}', epoch="") == (
            '{"id":3,"history":{"epoch":""}}'
        )
        assert await exact(client, '{"id":4,"presence_stats":{"channel":"empty"}}') == '{"id":4,"presence_stats":{}}'
        assert await exact(client, '{"id":5,"presence":{"channel":"empty"}}') == '{"id":5,"presence":{}}'
        assert await exact(client, '{"id":6,"unsubscribe":{"channel":"c"}}') == '{"id":6,"unsubscribe":{}}'
        assert await exact(client, '{"id":7,"publish":{"channel":"c","data":0}}') == '{"id":7,"publish":{}}'
        assert await exact(client, '{"id":8,"ping":{}}') == '{"id":8,"error":{"code":108,"message":"not available"}}'


async def exact(client: Client, command: str, *, epoch: str | None = None) -> str:
    """The frame that answers a command, with its epoch, which is random, replaced."""
    await client.send(command)
    frame = await client.frame()
    if epoch is None:
        return frame
    body = next(value for name, value in json.loads(frame).items() if name != "id")
    return frame.replace(body["epoch"], epoch)


async def test_fields_that_a_newer_sdk_may_send_are_ignored() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.send('{"id":5,"subscribe":{"channel":"c","delta":"fossil","tf":{"x":[1]},"flag":1},"later":true}')
        reply = await client.message()
        assert reply["id"] == 5
        assert "delta" not in reply["subscribe"]
