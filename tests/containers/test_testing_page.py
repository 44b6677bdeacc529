"""The page "Testing your app": each of its examples is a file of a project whose tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from app import testing
from tests.docs.pages import ROOT, blocks, prose

PAGE = ROOT / "docs" / "testing.md"


def write_project(folder: Path) -> list[str]:
    """Write every example to its file; the names of the files."""
    files = {block.file: block.text for block in blocks(PAGE) if block.language == "python"}
    assert all(files), "every example names its file"
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(files)


def test_the_examples_pass_and_every_one_of_them_runs(tmp_path: Path) -> None:
    written = write_project(tmp_path)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    tests = sum(len(re.findall(r"^(?:async )?def test_", block.text, re.MULTILINE)) for block in blocks(PAGE))
    path = os.pathsep.join(map(str, (tmp_path, ROOT)))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "20", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{tests} passed" in result.stdout
    assert {"conftest.py", "orders.py"} <= set(written)
    assert tests >= 10


def test_the_examples_are_typed(tmp_path: Path) -> None:
    written = write_project(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-untyped-imports", "--cache-dir", str(tmp_path), *written],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_the_page_lists_what_the_module_offers() -> None:
    told = set(re.findall(r"^\| `(\w+)\(", prose(PAGE), re.MULTILINE))
    public = {name for name, value in vars(testing).items() if getattr(value, "__module__", "") == testing.__name__}
    assert told == {name for name in public if not name.startswith("_")} - {"ManualTimer"}
