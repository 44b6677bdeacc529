"""The proof as table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dependency_injector import containers, providers

from providers import Fresh, PerKey, Proof, Shared, prove

from .wiring import PROBES, Box, Manager, by_user, container_of, proof_of

SECRET = "nobody may read this"


class Shop(containers.DeclarativeContainer):
    """A container with a part of each sort."""

    clock = Shared(Box, reason='says "now" & no more')
    basket = Fresh(Box)
    banner = providers.Object(SECRET)
    manager = PerKey(
        Fresh(Manager, part=providers.Dict(clock=clock, basket=basket.provider, banner=banner)), key=by_user
    )
    control = Shared(Box, manager.provider, reason="never reached from a manager")
    unused = Fresh(Box)


def shop() -> Proof:
    container: Any = Shop()
    return prove(container, PROBES)


def test_the_table_shows_path_provider_verdict_and_reason() -> None:
    lines = shop().as_table().splitlines()
    assert lines[0] == "tests.proof.test_rendering.Shop: proved"
    assert [cell.strip() for cell in re.split(r"\s{2,}", lines[2])] == ["path", "provider", "verdict", "reason"]
    rows = [re.split(r"\s{2,}", line) for line in lines[4:]]
    assert ["manager → part → clock", "Shared(tests.proof.wiring.Box)", "shared", 'says "now" & no more'] in rows
    assert ["manager → part → basket", "Fresh(tests.proof.wiring.Box)", "fresh", "a new object at every call"] in rows


def test_the_table_of_a_failed_proof_begins_with_what_failed() -> None:
    lines = proof_of(container_of(providers.Singleton(Box))).as_table().splitlines()
    assert lines[0].endswith(": NOT PROVED, 1 failure")
    assert lines[4].startswith("manager → part")
    assert "leak" in lines[4]
    both = container_of(providers.List(providers.Singleton(Box), providers.Singleton(Box)))
    assert ": NOT PROVED, 2 failures" in proof_of(both).as_table()


def test_the_json_has_what_an_auditor_files() -> None:
    before = datetime.now(UTC)
    proof = shop()
    filed = json.loads(proof.as_json())
    assert filed["container"] == "tests.proof.test_rendering.Shop"
    assert filed["proved"] is True
    assert filed["graph_sha256"] == proof.digest
    assert filed["version"] == version("bulkhead-gateway")
    assert before <= datetime.fromisoformat(filed["time"]) <= datetime.now(UTC)
    assert {
        "path": ["manager", "part", "clock"],
        "provider": "Shared",
        "provides": "tests.proof.wiring.Box",
        "verdict": "shared",
        "reason": 'says "now" & no more',
    } in filed["findings"]
    assert json.loads(proof_of(container_of(providers.Singleton(Box))).as_json())["proved"] is False


def test_no_value_is_shown_anywhere() -> None:
    proof = shop()
    for text in (proof.as_table(), proof.as_json(), proof.as_dot(), proof.as_mermaid(), repr(proof)):
        assert SECRET not in text


def nodes(text: str, pattern: str) -> dict[str, str]:
    """The nodes of a picture: number by label."""
    return {label: node for node, label in re.findall(pattern, text)}


def test_the_mermaid_picture_tells_the_sorts_of_parts_apart() -> None:
    text = shop().as_mermaid()
    assert text.startswith("flowchart LR\n")
    found = nodes(text, r'(n\d+)\["(.*)"\]')
    classes = {name: css for names, css in re.findall(r"  class (\S+) (c\d+)", text) for name in names.split(",")}
    sort = {label: classes[node] for label, node in found.items()}
    manager, clock, basket, unused, control = (
        "manager<br>PerKey(Fresh)<br>per user",
        "clock<br>Shared(Box)<br>shared",
        "basket<br>Fresh(Box)<br>fresh",
        "unused<br>Fresh(Box)<br>outside",
        "control<br>Shared(Box)<br>shared",
    )
    assert len({sort[manager], sort[clock], sort[basket], sort[unused]}) == 4
    assert sort[control] == sort[clock]
    assert re.search(rf"{found[manager]} --> n\d+", text)


def test_the_dot_picture_has_the_same_parts_and_lines() -> None:
    proof = shop()
    text = proof.as_dot()
    assert text.startswith("digraph wiring {\n")
    assert text.endswith("}\n")
    assert len(re.findall(r"^  n\d+ \[", text, re.MULTILINE)) == len(proof.parts)
    assert len(re.findall(r"^  n\d+ -> n\d+ ", text, re.MULTILINE)) == len(proof.uses)
    assert 'tooltip="says \\"now\\" & no more"' in text
    assert len(nodes(proof.as_mermaid(), r'(n\d+)\["(.*)"\]')) == len(proof.parts)


def test_names_with_characters_of_the_language_are_escaped() -> None:
    container = containers.DynamicContainer()
    container.set_provider('odd "<name>#\\', Shared(Box, reason="a\nb"))
    proof = prove(container)
    assert "odd #quot;#lt;name#gt;#35;\\" in proof.as_mermaid()
    assert r"odd \"<name>#\\" in proof.as_dot()


def test_the_hash_of_the_graph_is_the_same_in_every_process() -> None:
    program = "from tests.proof.test_rendering import shop; print(shop().digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {shop().digest}


def test_the_hash_changes_with_the_wiring_and_not_with_a_value() -> None:
    def digest(part: Any) -> str:
        return proof_of(container_of(part)).digest

    assert digest("a") == digest("b")
    assert digest(1) != digest("a")
    assert len({digest(Fresh(Box)), digest(Fresh(Manager)), digest(providers.Factory(Box)), digest(None)}) == 4
    assert digest(Shared(Box, reason="a")) != digest(Shared(Box, reason="b"))
    assert digest(Fresh(Box)) != digest(Fresh(Box).provider)
    container = container_of(Fresh(Box))
    before = proof_of(container).digest
    container.manager.override(PerKey(Fresh(Manager), key=by_user))
    assert proof_of(container).digest != before
