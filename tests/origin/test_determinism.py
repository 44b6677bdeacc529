"""Row: keys are deterministic: the last fallback differed in every process and, with a default repr, in every run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.realtime.identity import IdentityError, UserContext

ROOT = Path(__file__).parents[2]

IDS = ("alice", "a:b", "no_user_context", "\u00e9%", "x" * 255)

PROGRAM = """
import json, sys
from app.realtime.identity import UserContext
ids = json.loads(sys.argv[1])
keys = [UserContext(user_id=one, session_id=two, claims={"tier": one}).session_key for one in ids for two in ids]
keys += [UserContext(session_id=one).key for one in ids]
keys += [UserContext(thread_id=one, request_id=two).key for one in ids for two in ids]
print(json.dumps(keys))
"""


def keys_of_a_process(seed: str) -> list[str]:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(IDS)],
        cwd=ROOT,
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    keys: list[str] = json.loads(finished.stdout)
    return keys


def test_keys_are_the_same_in_every_process() -> None:
    first, *others = (keys_of_a_process(seed) for seed in ("0", "1", "4242", "random"))
    assert len(set(first)) == len(first)
    assert all(other == first for other in others)


def test_contexts_made_anew_have_the_key_of_before() -> None:
    for name in IDS:
        assert UserContext(user_id=name).key == UserContext(user_id=name, claims={"other": object()}).key


def test_an_object_without_ids_has_no_key_instead_of_one_from_its_repr() -> None:
    class Request:
        """An object with Python's default repr, an address."""

    with pytest.raises(IdentityError, match="must be a string, got Request"):
        UserContext(user_id=Request())  # type: ignore[arg-type]
