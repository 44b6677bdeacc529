"""What the tests of the pages compare with, since a comparison that is always true would hide everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import anchors, blocks, links
from tests.docs.terminal import quotes, shape, shows


@pytest.mark.parametrize(
    ("printed", "text", "expected"),
    [
        ("one\ntwo\n", "one\ntwo", True),
        ("one\nbetween\ntwo\n", "one\ntwo", True),
        ("offset 17 (#alice)\n", "offset … (#alice)", True),
        ("two\none\n", "one\ntwo", False),
        ("one more\n", "one", False),
        ("", "one", False),
    ],
)
def test_lines_are_shown_when_they_come_whole_and_in_order(printed: str, text: str, expected: bool) -> None:
    assert shows(printed, text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = f(1, 2)", True),
        ("a = f(…, 2)\n…\nc = 3", True),
        ("c = 3\n…\na = f(1, 2)", False),
        ("a = f(1)", False),
        ("a = f(1, 2)\nc = 3", False),
    ],
)
def test_an_excerpt_is_a_quotation_however_it_is_wrapped(text: str, expected: bool) -> None:
    assert quotes("a = f(\n    1,\n    2,\n)\nb = 2\nc = 3\n", text) is expected


def test_answers_of_one_shape_have_the_same_names_types_and_lengths() -> None:
    assert shape({"offset": 1, "ids": ["a"]}) == shape({"offset": 2, "ids": ["b"]})
    for other in (
        {"offset": "1", "ids": ["a"]},
        {"offset": 1, "ids": []},
        {"offset": 1},
        {"offset": None, "ids": ["a"]},
    ):
        assert shape({"offset": 1, "ids": ["a"]}) != shape(other)


def test_a_page_has_blocks_links_and_anchors(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `name`: more\n\n```bash run\n# no heading, [no](link)\n```\n[a](b.md#c) and [d](#e)\n")
    assert [(block.language, block.use, block.text) for block in blocks(page)] == [
        ("bash", "run", "# no heading, [no](link)\n")
    ]
    assert links(page) == ["b.md#c", "#e"]
    assert anchors(page) == {"a-name-more"}
