"""The changelog and the version tell the same story."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[2]


def sections() -> dict[str, str]:
    """What the headings of the changelog say: version and date, empty if there is none."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## \[(.+)\](?: - (.+))?$", text, re.MULTILINE))


def test_a_release_has_a_date_and_what_has_none_is_unreleased() -> None:
    told = sections()
    assert told.pop("Unreleased", "") == ""
    assert {version: date.fromisoformat(on).isoformat() for version, on in told.items()} == told


def test_a_version_that_is_not_in_the_changelog_is_a_development_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert Version(version).is_devrelease or version in sections()
    assert Version(version).base_version not in sections() or version in sections()
