"""The catalogue of codes: what SDKs act on."""

from __future__ import annotations

from enum import Enum

import pytest

from app.realtime.codes import CommandError, Disconnect, DisconnectCode, ErrorCode, UnsubscribeCode


@pytest.mark.parametrize("catalogue", [ErrorCode, DisconnectCode, UnsubscribeCode])
def test_no_number_stands_for_two_things(catalogue: type[Enum]) -> None:
    codes = [member.value[0] for member in catalogue]
    assert len(set(codes)) == len(codes) == len(catalogue.__members__)


def test_sdks_try_again_after_temporary_errors_alone() -> None:
    assert {error.code for error in ErrorCode if error.temporary} == {100, 111, 113, 1503}


def test_sdks_come_back_after_a_disconnect_unless_it_is_final() -> None:
    final = {code.code for code in DisconnectCode if code.final}
    assert final == {1009, *range(3500, 3510)}
    assert all(code == 1009 or 3500 <= code <= 3999 for code in final)


@pytest.mark.parametrize("code", DisconnectCode)
def test_every_reason_fits_a_close_frame(code: DisconnectCode) -> None:
    assert Disconnect(code).reason == code.reason
    assert len(code.reason.encode()) <= 123


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\U0001f512"])
def test_a_long_reason_is_cut_between_characters(letter: str) -> None:
    reason = Disconnect(DisconnectCode.BAD_REQUEST, letter * 200).reason
    assert 120 <= len(reason.encode()) <= 123
    assert set(reason) == {letter}


def test_an_error_can_say_more_than_the_catalogue() -> None:
    plain, told = CommandError(ErrorCode.BAD_REQUEST), CommandError(ErrorCode.BAD_REQUEST, "bad request: no channel")
    assert (plain.code, plain.message, plain.temporary, str(plain)) == (107, "bad request", False, "107 bad request")
    assert told.message == "bad request: no channel"
