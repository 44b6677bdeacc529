"""What a reader of a page does: saves files, runs commands, and looks at what they print."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from tests.docs.pages import ROOT, Block
from tests.ports import free_port

PATIENCE = 20.0  # seconds for a command, a start, or lines to appear


class Terminal:
    """A folder with `.venv` and, if given, `node_modules`; a development server; and ports of this test's own.

    In whatever is saved or run, 8000 stands for the port of the server, 8001 and 8002 for free ones.
    """

    def __init__(self, folder: Path, node_modules: Path | None) -> None:
        """Start the server."""
        self._folder = folder
        self._programs: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self._ports = {port: free_port() for port in ("8000", "8001", "8002")}
        self._printed = ""
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("BULKHEAD_")}
        (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
        # Nobody has activated the virtual environment.
        path = (part for part in environment["PATH"].split(os.pathsep) if Path(part) != Path(sys.executable).parent)
        self._environment = {**environment, "PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
        if node_modules is not None:
            (folder / "node_modules").symlink_to(node_modules)
        self._start(".venv/bin/bulkhead serve --profile development --port 8000")

    def follow(self, block: Block) -> None:
        """Do what the page wants done with a block."""
        text = self._localised(block.text)
        match block.use.partition("=")[0], block.language:
            case "file", _:
                (self._folder / block.file).write_text(text, encoding="utf-8")
            case "run", "bash":
                self._printed = self._run(["bash", "-euo", "pipefail", "-c", text])
            case "run", "python":
                self._printed = self._run([".venv/bin/python", "-c", text])
            case "background", _:
                self._start(text)
            case "answer", "json":
                expected, printed = json.loads(text), json.loads(self._printed)
                assert shape(printed) == shape(expected), self._printed
            case "answer", _:
                assert shows(self._printed, text), self._printed
            case "shows", _:
                self._await(text)
            case "excerpt", _:
                source = (ROOT / block.use.removeprefix("excerpt=")).read_text(encoding="utf-8")
                assert quotes(source, text), f"{block.use} does not say: {text}"

    def close(self) -> None:
        """End all programs."""
        for program, output in reversed(self._programs):
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
            program.wait(PATIENCE)
            output.close()

    def _localised(self, text: str) -> str:
        return re.sub(r"\b800[0-2]\b", lambda found: str(self._ports[found[0]]), text)

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, text: str) -> None:
        output = (self._folder / f"{len(self._programs)}.out").open("w+b")
        command = ["bash", "-euo", "pipefail", "-c", self._localised(text)]
        program = subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what the shell starts ends with it
        )
        self._programs.append((program, output))
        deadline = time.monotonic() + PATIENCE
        while not (self._folder / f"{len(self._programs) - 1}.out").stat().st_size:
            assert program.poll() is None, f"{text} ended with {program.returncode}"
            assert time.monotonic() < deadline, f"{text} prints nothing"
            time.sleep(0.02)

    def _await(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not any(shows(printed, text) for printed in self._outputs()):
            assert time.monotonic() < deadline, "\n".join(self._outputs())
            time.sleep(0.02)

    def _outputs(self) -> list[str]:
        files = (self._folder / f"{number}.out" for number in range(len(self._programs)))
        return [file.read_text(encoding="utf-8") for file in files]


def shows(printed: str, text: str) -> bool:
    """Whether lines are printed in this order, perhaps with others between them; `…` stands for anything."""
    patterns = (
        re.escape(line.strip()).replace("…", ".*") for line in text.splitlines() if line.strip() not in ("", "…")
    )
    lines = iter(line.strip() for line in printed.splitlines())
    return all(any(re.fullmatch(pattern, line) for line in lines) for pattern in patterns)


def quotes(source: str, text: str) -> bool:
    """Whether the parts of a text between `…` are in a source in this order, however it is wrapped."""
    rest = squeezed(source)
    for part in squeezed(text).split("…"):
        _, found, rest = rest.partition(part) if part else ("", "…", rest)
        if not found:
            return False
    return True


def squeezed(text: str) -> str:
    """Without white space and trailing commas."""
    return re.sub(r"\s+", "", text).replace(",)", ")")


def shape(value: Any) -> Any:
    """What two answers have in common when only their values differ: names, types and the length of lists."""
    match value:
        case dict():
            return {name: shape(item) for name, item in value.items()}
        case list():
            return [shape(item) for item in value]
        case _:
            return type(value).__name__
