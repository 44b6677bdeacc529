"""The reference page says what the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.paths import env_name, setting_paths
from config.reference import main

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_reference_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    message = "run `python -m config.reference > docs/configuration.md`"
    assert PAGE.read_text(encoding="utf-8") == capsys.readouterr().out, message


def test_the_reference_page_has_every_setting_and_its_variable() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [path for path in setting_paths() if f"| `{path}` | `{env_name(path)}` |" not in page] == []
