"""The lock files say what pyproject.toml and package.json ask for, and say it for every installer and mirror."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def group(name: str) -> Iterator[str]:
    for entry in project()["dependency-groups"][name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from group(entry["include-group"])


def entries(lock: str) -> list[str]:
    """The entries of a lock file, each with its continuation lines."""
    return (ROOT / lock).read_text().replace("\\\n", "").strip().splitlines()


def pins(lock: str) -> dict[str, Version]:
    requirements = (Requirement(entry.partition("--hash")[0]) for entry in entries(lock))
    return {
        canonicalize_name(requirement.name): Version(str(requirement.specifier).removeprefix("=="))
        for requirement in requirements
    }


def unmet(requirements: list[str], pinned: dict[str, Version]) -> list[str]:
    parsed = map(Requirement, requirements)
    return [
        str(requirement)
        for requirement in parsed
        if (version := pinned.get(canonicalize_name(requirement.name))) is None or version not in requirement.specifier
    ]


def test_each_lock_meets_the_requirements_it_was_resolved_from() -> None:
    runtime, build = project()["project"]["dependencies"], project()["build-system"]["requires"]
    assert unmet(runtime, pins("requirements.lock")) == []
    assert unmet([*runtime, *group("dev")], pins("requirements-dev.lock")) == []
    assert unmet([*build, *group("build")], pins("requirements-build.lock")) == []


def test_a_requirement_that_no_pin_meets_is_found() -> None:
    pinned = {"fastapi": Version("0.1")}
    assert unmet(["fastapi>=0.1", "FastAPI>=0.2", "absent"], pinned) == ["FastAPI>=0.2", "absent"]


def test_development_uses_the_very_versions_that_serve() -> None:
    development = pins("requirements-dev.lock")
    for lock in ("requirements.lock", "requirements-build.lock"):
        assert pins(lock).items() <= development.items()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_address(lock: str) -> None:
    for entry in entries(lock):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
        assert "://" not in entry
        assert not entry.startswith("-")


def test_the_javascript_lock_matches_its_manifest_and_has_no_address() -> None:
    manifest = json.loads((ROOT / "tests/node/package.json").read_text())
    text = (ROOT / "tests/node/package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert packages[""]["dependencies"] == manifest["dependencies"]
    assert "://" not in text
    assert all("integrity" in package for path, package in packages.items() if path)
