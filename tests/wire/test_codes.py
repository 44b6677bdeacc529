"""The catalogue of codes, beside the protocol and beside what is sent."""

from __future__ import annotations

import re
from pathlib import Path

import app.realtime
from app.realtime.codes import DisconnectCode, ErrorCode, UnsubscribeCode

SOURCES = Path(app.realtime.__file__).parents[1]
TESTS = Path(__file__).parent

# Of the protocol, and for what is not here: other transports, an engine that can invalidate state, middleware.
NOT_SENT = frozenset(
    {
        ErrorCode.UNAUTHORIZED,
        ErrorCode.UNKNOWN_CHANNEL,
        ErrorCode.EXPIRED,
        ErrorCode.CONCURRENT_PAGINATION,
        DisconnectCode.SUBSCRIPTION_EXPIRED,
        DisconnectCode.STATE_INVALIDATED,
        DisconnectCode.NOT_AVAILABLE,
        DisconnectCode.TOO_MANY_ERRORS,
        UnsubscribeCode.FINAL,
        UnsubscribeCode.STATE_INVALIDATED,
    }
)
# Noted in metrics and the lifecycle record; the peer is gone, so no frame carries them.
NOT_SEEN = frozenset({DisconnectCode.CONNECTION_CLOSED, DisconnectCode.WRITE_ERROR})


def test_numbers_are_those_of_the_protocol() -> None:
    assert {error.code for error in ErrorCode} == {*range(100, 114), 1503}
    assert {error.code for error in ErrorCode if error.temporary} == {100, 111, 113, 1503}
    assert {one.code for one in DisconnectCode} == {
        1009, 3000, 3001, 3004, 3005, 3006, *range(3008, 3015), *range(3500, 3510),
    }  # fmt: skip
    assert {one.code for one in UnsubscribeCode} == {2000, 2500, 2501, 2502}


def test_sdks_stop_for_good_after_the_final_ones() -> None:
    assert {one.code for one in DisconnectCode if one.final} == {1009, *range(3500, 3510)}


def test_every_reason_fits_a_close_frame() -> None:
    assert all(len(one.reason.encode()) <= 123 for one in DisconnectCode)


def test_every_code_is_used_or_listed_as_not_sent() -> None:
    text = "\n".join(path.read_text() for path in SOURCES.rglob("*.py") if path.name != "codes.py")
    used = set(re.findall(r"\b(ErrorCode|DisconnectCode|UnsubscribeCode)\.([A-Z_]+)", text))
    members = {
        (type(one).__name__, one.name): one for kind in (ErrorCode, DisconnectCode, UnsubscribeCode) for one in kind
    }
    assert {one for name, one in members.items() if name not in used} == NOT_SENT


def test_every_code_that_is_sent_is_seen_by_a_test_of_the_wire() -> None:
    text = "\n".join(path.read_text() for path in TESTS.glob("test_*.py") if path.name != Path(__file__).name)
    seen = {int(number) for number in re.findall(r"\b\d{3,4}\b", text)} | {
        getattr(DisconnectCode, name).code for name in re.findall(r"DisconnectCode\.([A-Z_]+)", text)
    }
    sent = {
        one.code
        for kind in (ErrorCode, DisconnectCode, UnsubscribeCode)
        for one in kind
        if one not in NOT_SENT | NOT_SEEN
    }
    assert sent <= seen, sent - seen
