"""That the benchmarks run, and that their page is one that they can write. What they measure is no matter of tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = "| Measured | Of |"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.nodes
@pytest.mark.timeout(240)
def test_a_quick_run_measures_every_comparison_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    shutil.copyfile(PAGE, page)
    ran = bench("--quick", "--write", str(page))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "goals met" in ran.stdout
    written = page.read_text(encoding="utf-8")
    table = [line for line in written.splitlines() if line.startswith("| ")]
    assert table[0].startswith(HEAD)
    for measured in (
        "existing user",
        "events delivered",
        "memory of an idle",
        "events published",
        "bare ASGI send",
        "audit of",
        "events over the engine",
        "rolling restart: events lost",
    ):
        assert any(line.startswith(f"| {measured}") for line in table), measured
    assert written.startswith(PAGE.read_text(encoding="utf-8").partition("<!--")[0])


def test_a_run_of_one_comparison_writes_its_table_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = "<!-- {}: written by python -m benchmarks --write -->\n", "<!-- end of {} -->\n"
    kept = f"{begin.format('http')}kept\n{end.format('http')}rest\n"
    page.write_text(f"{begin.format('registry')}before\n{end.format('registry')}{kept}", encoding="utf-8")
    assert bench("--quick", "registry", "--write", str(page)).returncode == 0
    written = page.read_text(encoding="utf-8")
    assert HEAD in written
    assert "before" not in written
    assert written.endswith(f"{end.format('registry')}{kept}")


def test_a_page_without_marks_for_a_table_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing", encoding="utf-8")
    ran = bench("--quick", "registry", "--write", str(page))
    assert ran.returncode != 0
    assert "has no marks for the table of registry" in ran.stderr
    assert page.read_text(encoding="utf-8") == "nothing"


@pytest.mark.nodes
@pytest.mark.timeout(120)
def test_a_rolling_restart_under_load_loses_nothing_and_repeats_nothing() -> None:
    ran = bench("--strict", "rolling", "--users", "200")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "5 of 5 goals met" in ran.stdout


def test_a_goal_that_is_missed_is_an_error_only_where_that_is_wanted() -> None:
    assert bench("--quick", "registry").returncode == 0
    ran = bench("--quick", "--strict", "registry")
    assert ran.returncode == ("MISSED" in ran.stdout)


def test_a_comparison_that_there_is_not_is_refused_by_name() -> None:
    ran = bench("speed")
    assert ran.returncode == 2
    assert (
        "no comparison speed; there are registry, delivery, connections, http, servers, isolation, engine, rolling"
        in ran.stderr
    )


def test_the_page_has_the_table_of_a_run() -> None:
    assert HEAD in PAGE.read_text(encoding="utf-8")
