"""The rule for programs that tests drive: missing, they skip and say the remedy; in CI they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_without_programs(folder: Path, fixture: str, **environment: str) -> str:
    test = folder / "test_needs.py"
    test.write_text(f"def test_needs({fixture}):\n    assert {fixture}\n")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            "-c",
            ROOT / "pyproject.toml",
            test,
        ],
        cwd=ROOT,
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize(
    ("fixture", "remedy"),
    [
        ("chromium", "apt-get install chromium"),
        ("node_modules", "apt-get install nodejs npm"),
        ("server_program", "apt-get install redis-server"),
    ],
)
def test_a_missing_program_skips_its_tests_with_the_remedy_and_fails_them_in_ci(
    tmp_path: Path, fixture: str, remedy: str
) -> None:
    output = run_without_programs(tmp_path, fixture, COLUMNS="200")
    assert "1 skipped" in output
    assert remedy in output

    output = run_without_programs(tmp_path, fixture, COLUMNS="200", CI="true")
    assert "1 error" in output
    assert remedy in output


def test_a_present_program_is_found(tmp_path: Path) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\n")
    program.chmod(os.stat(sys.executable).st_mode)
    assert "1 passed" in run_without_programs(tmp_path, "chromium")
