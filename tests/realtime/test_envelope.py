"""Events as clients get them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from app.realtime.envelope import Envelopes, EventTooLarge, InvalidData
from app.realtime.identity import IdentityError
from tests.clock import ManualClock


def envelopes(max_bytes: int = 1000) -> Envelopes:
    return Envelopes(ManualClock(time=1_700_000_000.5), max_bytes)


def test_an_event_has_type_data_thread_id_and_time() -> None:
    sealed = json.loads(envelopes().seal("agent_started", {"step": 1}, "thread-7"))
    assert sealed.pop("id")
    assert sealed == {"type": "agent_started", "data": {"step": 1}, "thread_id": "thread-7", "at": 1_700_000_000_500}
    assert "thread_id" not in json.loads(envelopes().seal("agent_started", None))


def test_no_two_events_have_one_id_not_even_of_two_processes() -> None:
    here, there = envelopes(), envelopes()
    ids = [json.loads(one.seal("t", 1))["id"] for one in (here, there) for _ in range(100)]
    assert len(set(ids)) == 200


@pytest.mark.parametrize("wrap", [bytes, Raw], ids=["bytes", "Raw"])
def test_json_passes_byte_for_byte_but_for_line_breaks(wrap: Any) -> None:
    text = '{"a" : 1.0,  "\u00e9":\t[1e3, "x\\ny"]}'
    assert f'"data":{text}' in envelopes().seal("t", wrap(text.encode()))
    broken = wrap(b'{"a":\r\n1,\n"b": "\\n"}')
    sealed = envelopes().seal("t", broken)
    assert "\n" not in sealed
    assert "\r" not in sealed
    assert json.loads(sealed)["data"] == {"a": 1, "b": "\n"}


@pytest.mark.parametrize("data", [b"", b"{", b"{} {}", b"\xff", b'"\xff"', b"[" * 100_000], ids=lambda one: one[:6])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidData, match="data is not JSON: ") as refused:
        envelopes(10**6).seal("t", data)
    assert refused.value.why


@pytest.mark.parametrize("data", [rb'"\ud83d"', rb'{"a":"\ude00"}', "\ud83d"])
def test_half_a_surrogate_pair_is_refused(data: Any) -> None:
    with pytest.raises(InvalidData, match="half a surrogate pair"):
        envelopes().seal("t", data)
    assert r'"data":"\ud83c\udf88"' in envelopes().seal("t", rb'"\ud83c\udf88"')


@pytest.mark.parametrize("data", [object(), {1j: 2}, lambda: None], ids=["object", "complex", "function"])
def test_what_cannot_be_json_is_a_type_error(data: Any) -> None:
    with pytest.raises(TypeError):
        envelopes().seal("t", data)


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\U0001f512"])
def test_data_is_measured_in_bytes(letter: str) -> None:
    size = len(letter.encode())
    fits = 100 - 100 % size
    assert envelopes(fits + 2).seal("t", letter * (fits // size))
    with pytest.raises(EventTooLarge, match=r"at most \d+ are allowed \(limits\.event_bytes\)") as refused:
        envelopes(fits + 1).seal("t", letter * (fits // size))
    assert (refused.value.size, refused.value.limit) == (fits + 2, fits + 1)


@pytest.mark.parametrize(("type_", "thread"), [("", None), ("a\n", None), ("t", ""), ("t", "x" * 256)])
def test_type_and_thread_follow_the_rules_of_ids(type_: str, thread: str | None) -> None:
    with pytest.raises(IdentityError) as refused:
        envelopes().seal(type_, 1, thread)
    assert refused.value.name == ("type" if thread is None else "thread_id")


def test_names_are_escaped() -> None:
    sealed = json.loads(envelopes().seal('a"b\\', 1, '"},"at":0,"x":{"'))
    assert (sealed["type"], sealed["thread_id"]) == ('a"b\\', '"},"at":0,"x":{"')
    assert sealed["at"] == 1_700_000_000_500


def test_more_types_than_are_remembered_are_sealed_all_the_same() -> None:
    sealing = envelopes()
    for _ in range(2):
        assert [json.loads(sealing.seal(f"t{number}", 1))["type"] for number in range(1500)] == [
            f"t{number}" for number in range(1500)
        ]
