"""What the pages say is so."""

from __future__ import annotations

import ast
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from app.realtime.codes import DisconnectCode, ErrorCode
from config.paths import env_name, setting_paths
from config.sources import OWN_FILE_VARIABLE
from tests.conftest import require
from tests.docs import generate
from tests.docs.pages import LANGUAGES, PAGES, ROOT, anchors, blocks, links, prose, section
from tests.docs.terminal import Terminal

ELSEWHERE = frozenset({"configuration.md", "testing.md", "benchmarks.md"})  # these have tests of their own
OURS = tuple(page for page in PAGES if page.name not in ELSEWHERE)
INSTALL = re.compile(r"(?:\.venv/bin/python -m pip|npm) install ([\w -]+)")


def name(page: Path) -> str:
    return page.name


@pytest.fixture
def terminal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A terminal in an empty folder, with the JavaScript SDK where the page needs it."""
    require(shutil.which("curl"), "curl is missing. Debian: apt-get install curl.")
    needs_node = request.node.get_closest_marker("node") is not None
    started = Terminal(tmp_path, request.getfixturevalue("node_modules") if needs_node else None)
    yield started
    started.close()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.node if any(block.language == "js" for block in blocks(page)) else ())
        for page in OURS
        if any(block.use for block in blocks(page))
    ],
    ids=name,
)
def test_the_examples_of_a_page_do_what_it_says(page: Path, terminal: Terminal) -> None:
    for block in blocks(page):
        if block.use:
            terminal.follow(block)


@pytest.mark.parametrize("page", OURS, ids=name)
def test_every_block_says_how_it_is_tested(page: Path) -> None:
    for block in blocks(page):
        assert block.use.partition("=")[0] in LANGUAGES[block.language], block


@pytest.mark.parametrize("page", OURS, ids=name)
def test_commands_that_no_test_runs_only_fetch_install_or_are_verbs(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = [*project["dependency-groups"]["dev"], (ROOT / "tests" / "node" / "package.json").read_text()]
    for block in blocks(page):
        if (block.language, block.use) != ("bash", ""):
            continue
        for line in block.text.splitlines():
            installed = INSTALL.fullmatch(line)
            known = installed is not None and all(
                any(word in str(package) for package in packages) for word in installed[1].split()
            )
            assert known or line.startswith(("git clone ", "cd ", "make ")), line


@pytest.mark.parametrize("page", OURS, ids=name)
def test_what_examples_import_comes_with_the_gateway_or_is_installed_before(page: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    known = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    saved = {*sys.stdlib_module_names, "app", "config", "containers", "providers"}
    for block in blocks(page):
        if block.language == "bash":
            known |= {word for words in INSTALL.findall(block.text) for word in words.split()}
        elif block.language == "js":
            assert set(re.findall(r"from \"([\w-]+)\"", block.text)) <= known
        elif block.language == "python" and block.use.partition("=")[0] in ("run", "file"):
            for module in top_level_imports(block.text) - saved:
                assert known & set(map(canonicalize_name, packages_distributions()[module])), module
            saved.add(block.file.removesuffix(".py"))


def top_level_imports(source: str) -> set[str]:
    """The top-level modules that a program imports."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        found.partition(".")[0]
        for found in plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_verbs_and_settings_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    verbs = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= set(verbs)
    paths = setting_paths()
    variables = {OWN_FILE_VARIABLE, *map(env_name, paths)}
    assert set(re.findall(r"\bBULKHEAD_[A-Z_]+", text)) <= variables
    sections = {path.rpartition(".")[0] for path in paths if "." in path}
    named = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_.]+)`", text)
    assert set(named) <= {*paths, *sections, "config.settings"}


@pytest.mark.parametrize(("page", "part"), generate.SECTIONS)
def test_generated_parts_are_up_to_date(page: str, part: str) -> None:
    assert section(ROOT / page, part) == generate.SECTIONS[page, part](), "run `make docs`"


@pytest.mark.parametrize("name", generate.FILES)
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generate.FILES[name](), "run `make docs`"


def test_the_problems_of_the_http_api_are_those_of_the_code() -> None:
    told = set(re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", prose(ROOT / "docs" / "http-api.md"), re.MULTILINE))
    assert told == set(chain.from_iterable(map(problems, (ROOT / "app").rglob("*.py"))))


def problems(module: Path) -> Iterator[tuple[str, str]]:
    """The kind and status of each problem that a module makes."""
    text = module.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Name("ProblemError"), args=[ast.Constant(status), ast.Constant(kind), *_]):
                yield str(kind), str(status)
            case ast.Call(func=ast.Name("Problem"), args=[ast.Constant(str(urn)), _, ast.Constant(status), *_]) if (
                urn.startswith("urn:")
            ):
                yield urn.rpartition(":")[2], str(status)


def test_alert_rules_read_metrics_and_codes_that_exist() -> None:
    rules = next(block.text for block in blocks(ROOT / "docs" / "operations.md") if block.language == "yaml")
    names = set(re.findall(r"\bbulkhead_\w+", rules))
    told = set(re.findall(r"^\| `(bulkhead_\w+)` \|", generate.metrics(), re.MULTILINE))
    assert names
    assert names <= told
    codes = {str(code.code) for code in (*ErrorCode, *DisconnectCode)}
    assert set(re.findall(r'code="(\d+)"', rules)) <= codes


@pytest.mark.parametrize("page", OURS, ids=name)
def test_endpoints_exist(page: Path) -> None:
    told = set(re.findall(r"`((?:GET|POST|PUT|DELETE) /\S+)`", page.read_text(encoding="utf-8")))
    assert told <= set(re.findall(r"`(\w+ /\S+)`", generate.endpoints()))
