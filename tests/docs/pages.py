"""The pages of the documentation: their code, links and anchors.

The first word after a fence is the language; what follows says what a test does with the block:

- `run`: it is run, in the order of the page;
- `background`: it is started and runs on until the end of the page;
- `file=NAME`: it is saved under this name, for later blocks to use;
- `answer`: what the last `run` block prints: JSON of the same shape, or these lines;
- `excerpt=PATH`: these lines are in this file, in this order;
- `shows`: lines that the programs in the background come to print.

`…` in expected text stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
PAGES = tuple(sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]))

_FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what a test does with it (empty: nothing) and its text."""

    language: str
    use: str
    text: str

    @property
    def file(self) -> str:
        """The name it is saved under; empty if it is not."""
        return self.use.removeprefix("file=") if self.use.startswith("file=") else ""


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in _FENCE.finditer(page.read_text(encoding="utf-8")):
        language, _, use = found["info"].strip().partition(" ")
        yield Block(language, use, found["text"])


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> frozenset[str]:
    """The anchors of the headings of a page, as code hosts make them: lower case, hyphens, no punctuation."""
    headings = (re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", heading).lower() for heading in _HEADING.findall(prose(page)))
    return frozenset(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings)


def links(page: Path) -> list[str]:
    """The targets of all links of a page."""
    return _LINK.findall(prose(page))


def section(page: Path, name: str) -> str:
    """The generated section of this name."""
    begin, end = markers(name)
    text = page.read_text(encoding="utf-8")
    return text[text.index(begin) + len(begin) : text.index(end)]


def markers(name: str) -> tuple[str, str]:
    """What stands before and after a generated section."""
    return f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->\n"


LANGUAGES = MappingProxyType(
    {
        "bash": frozenset({"run", "background", ""}),
        "python": frozenset({"run", "background", "file", "excerpt"}),
        "js": frozenset({"file"}),
        "json": frozenset({"answer"}),
        "text": frozenset({"answer", "shows", ""}),
        "mermaid": frozenset({""}),
        "yaml": frozenset({"file"}),
    }
)
"""What a block of each language may be used for: so that no example escapes the tests."""
