"""The directions between the packages, and what no module may hold, read from the source.

Each rule is also shown a module that breaks it, so that a rule which finds nothing any more is noticed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "config", "containers", "providers")
MODULES = tuple(sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")))

LINES = 300
# These hold one class that nothing falls out of naturally; they may not grow, and leave this list when they shrink.
LONGER = MappingProxyType(
    {"app/realtime/connection.py": 370, "app/realtime/control.py": 355, "app/realtime/redis/broker.py": 325}
)

FRAMEWORK = ("fastapi", "starlette", "uvicorn")
LOCKS = frozenset({"Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"})
MUTABLE = frozenset(
    {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "Counter", "deque", "ChainMap"}
    | {"WeakSet", "WeakKeyDictionary", "WeakValueDictionary", "local", "SimpleNamespace", "Queue"}
)


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything imported; `from a import b` gives `a.b`."""
    package = path.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def may_import(path: Path, name: str) -> bool:
    """Whether the module at `path` may import `name`."""
    if within(name, "dependency_injector.wiring"):
        return False
    edge = within(name, "app") and not within(name, "app.realtime")
    match path.parts:
        case ("providers", *_):
            return name.partition(".")[0] in {*sys.stdlib_module_names, "dependency_injector", "providers"}
        case ("config", *_):
            return not within(name, "app", "containers", "providers", "dependency_injector", *FRAMEWORK)
        case ("app", "realtime", *_):
            return not edge and not within(name, "containers", "providers", "dependency_injector", *FRAMEWORK)
        case ("containers", *_):
            return not edge and not within(name, *FRAMEWORK)
        case _:
            return True


def is_mutable(value: ast.expr | None) -> bool:
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Tuple(elts=parts) | ast.BoolOp(values=parts):
            return any(map(is_mutable, parts))
        case ast.IfExp(body=first, orelse=second):
            return is_mutable(first) or is_mutable(second)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in MUTABLE
        case ast.NamedExpr(value=inner):
            return is_mutable(inner)
        case _:
            return False


def is_struct(tree: ast.AST) -> bool:
    """msgspec copies the defaults of a `Struct`'s fields for each object, so they are not shared."""
    return isinstance(tree, ast.ClassDef) and any(ast.unparse(base) == "msgspec.Struct" for base in tree.bases)


def shared_values(tree: ast.AST) -> Iterator[tuple[int, ast.expr | None]]:
    """Values that modules and classes hold, so that every user can reach them: not those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            if not (isinstance(node, ast.AnnAssign) and is_struct(tree)):
                yield node.lineno, node.value
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.expr)):
            yield from shared_values(node)


def violations(source: str, path: Path) -> list[str]:
    tree = ast.parse(source)
    found = [(line, f"imports {name}") for line, name in imported(tree, path) if not may_import(path, name)]
    found += [
        (line, "a mutable object shared by all users") for line, value in shared_values(tree) if is_mutable(value)
    ]
    for node in ast.walk(tree):
        match node:
            case ast.Global():
                found.append((node.lineno, "global"))
            case ast.Call(func=ast.Attribute(attr="wire")):
                found.append((node.lineno, "wires a container, which patches modules for all containers"))
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in LOCKS:
                found.append((node.lineno, f"a lock ({name})"))
            case ast.ImportFrom(names=names) if any(alias.name in LOCKS for alias in names):
                found.append((node.lineno, "imports a lock"))
    return [f"{path}:{line}: {what}" for line, what in sorted(found)]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_keeps_the_directions_and_holds_nothing_that_users_could_share(path: Path) -> None:
    assert violations((ROOT / path).read_text(), path) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_is_short(path: Path) -> None:
    lines = len((ROOT / path).read_text().splitlines())
    assert lines <= LONGER.get(path.as_posix(), LINES), f"{lines} lines: which noun in it is one of its own?"
    assert path.as_posix() not in LONGER or lines > LINES, "take it from LONGER"


def test_the_modules_of_all_packages_are_read() -> None:
    assert {path.parts[0] for path in MODULES} == set(PACKAGES)
    assert any(path.parts[:2] == ("app", "realtime") for path in MODULES)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("providers/a.py", "import app"),
        ("providers/a.py", "from config.settings import Settings"),
        ("providers/a.py", "import containers"),
        ("providers/a.py", "import fastapi"),
        ("providers/a.py", "from pydantic import BaseModel"),
        ("config/a.py", "from containers import GatewayContainer"),
        ("config/a.py", "from app.realtime import UserContext"),
        ("app/realtime/a.py", "from fastapi import WebSocket"),
        ("app/realtime/a.py", "import starlette.websockets"),
        ("app/realtime/a.py", "from dependency_injector import providers"),
        ("app/realtime/a.py", "from containers import GatewayContainer"),
        ("app/realtime/a.py", "from app import create_app"),
        ("app/realtime/a.py", "from .. import routes"),
        ("app/realtime/a.py", "from ..routes import router"),
        ("app/realtime/a.py", "def lazily():\n    import fastapi"),
        ("containers/a.py", "from app import create_app"),
        ("containers/a.py", "from app.dependencies import CurrentUser"),
        ("containers/a.py", "import app"),
        ("containers/a.py", "import fastapi"),
        ("app/a.py", "from dependency_injector.wiring import inject"),
        ("app/a.py", "container.wire(modules=())"),
        ("app/a.py", "def f():\n    global count\n    count = 1"),
        ("app/a.py", "import threading\nguard = threading.Lock()"),
        ("app/a.py", "from asyncio import Semaphore as S"),
        ("app/a.py", "class A:\n    def f(self):\n        self.guard = asyncio.Lock()"),
        ("app/a.py", "registry = {}"),
        ("app/a.py", "registry: dict[str, str] = dict()"),
        ("app/a.py", "names = 'a', ['b']"),
        ("app/a.py", "if True:\n    seen = set()"),
        ("app/a.py", "class A:\n    managers = weakref.WeakValueDictionary()"),
        ("app/a.py", "class A:\n    managers = [m for m in ()]"),
        ("app/a.py", "class A:\n    managers: dict[str, A] = {}"),
        ("app/a.py", "class A(msgspec.Struct):\n    managers = {}"),
    ],
)
def test_a_module_that_breaks_a_rule_is_found(path: str, source: str) -> None:
    assert len(violations(source, Path(path))) >= 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("providers/a.py", "import weakref\nfrom dependency_injector import providers\nfrom .keyed import PerKey"),
        (
            "app/realtime/a.py",
            "from app.realtime.identity import UserContext\nfrom . import mode\nfrom .. import realtime",
        ),
        ("containers/a.py", "from app.realtime import UserContext\nfrom providers import PerKey"),
        ("app/a.py", "from containers import GatewayContainer\nfrom fastapi import FastAPI"),
        (
            "app/a.py",
            "from types import MappingProxyType\nCODES = MappingProxyType({3000: 'closed'})\nKINDS = frozenset({1})",
        ),
        ("app/a.py", "def f():\n    seen = set()\n    return seen"),
        ("app/a.py", "class A(msgspec.Struct, frozen=True):\n    headers: dict[str, str] = {}"),
        ("app/a.py", "class A:\n    def __init__(self):\n        self.seen = []"),
    ],
)
def test_a_module_that_keeps_the_rules_passes(path: str, source: str) -> None:
    assert violations(source, Path(path)) == []
