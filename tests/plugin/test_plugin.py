"""The pytest plugin, in projects of its own: leaks fail their tests, clean tests pass, and others do not notice it."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester",)

INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"

CONFTEST = """
import pytest

from app.realtime import UserContext
from app.testing import gateway_container


@pytest.fixture
def container():
    return gateway_container()


@pytest.fixture
def managers(container):
    return [container.manager(UserContext(user_id=name)) for name in ("alice", "bob")]
"""

ASSERTING = """
from dependency_injector import containers, providers

from app.realtime import UserContext
from app.realtime.connections import ConnectionTable
from app.testing import gateway_container
from containers import GatewayContainer
from providers import Fresh, PerKey


class Basket:
    def __init__(self, user, items):
        self.user, self.items = user, items


class Shop(containers.DeclarativeContainer):
    items = Fresh(list)
    basket = PerKey(Fresh(Basket, items=items), key=lambda user: user)


PROBES = {"basket": (("nobody",), ("no-one",))}


def test_clean(assert_isolated, container, managers):
    assert assert_isolated(container).ok


def test_clean_of_ones_own(assert_isolated):
    shop = Shop()
    baskets = shop.basket("alice"), shop.basket("bob")
    assert assert_isolated(shop, probes=PROBES).ok


def test_wired(assert_isolated, container):
    container.connections.override(providers.Singleton(ConnectionTable, 8))
    assert_isolated(container)


def test_living(assert_isolated, container, managers):
    common = []
    for manager in managers:
        manager.record.events.append(common)
    assert_isolated(container)


def test_living_of_ones_own(assert_isolated):
    shop = Shop()
    alice, bob = shop.basket("alice"), shop.basket("bob")
    alice.items = bob.items
    assert_isolated(shop, probes=PROBES)


def test_without_probes(assert_isolated):
    assert_isolated(Shop())
"""

AUDITED = """
import pytest

from app import create_app
from app.testing import serve, token
from websockets.asyncio.client import connect


def test_clean(managers):
    pass


def test_leak(managers):
    for manager in managers[1:]:
        manager.record.events.append(managers[0].record)


@pytest.mark.bulkhead_audit(False)
def test_left_out(managers):
    test_leak(managers)


def test_fails_anyhow(managers):
    test_leak(managers)
    assert not "its own failure"


@pytest.fixture
async def served(container):
    async with serve(create_app(container)) as url:
        sockets = []
        for user in ("alice", "bob"):
            sockets.append(await connect(url.replace("http", "ws") + "/connection/websocket", proxy=None))
            await sockets[-1].send('{"id": 1, "connect": {"token": "%s"}}' % token(container, user))
            await sockets[-1].recv()
        yield container
        for socket in sockets:
            await socket.close()


async def test_served(served):
    assert served.manager.count() == 2


async def test_leak_while_served(served):
    first, second = served.manager.instances()
    next(iter(first.connections)).info = next(iter(second.connections))
"""

UNUSED = """
import sys


def test_nothing_is_loaded():
    unwanted = {"app.assertions", "app.testing", "providers", "containers", "config", "fastapi", "dependency_injector"}
    assert not unwanted & sys.modules.keys()
"""

MARKED = """
import pytest


def test_not_audited(managers):
    managers[1].record.events.append(managers[0].record)


@pytest.mark.bulkhead_audit
def test_audited(managers):
    managers[1].record.events.append(managers[0].record)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a gateway."""
    pytester.makeini(INI)
    pytester.makeconftest(CONFTEST)
    return pytester


def run(project: pytest.Pytester, tests: str) -> pytest.RunResult:
    project.makepyfile(tests)
    return project.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")


def test_assert_isolated_proves_the_wiring_and_audits_what_lives(project: pytest.Pytester) -> None:
    result = run(project, ASSERTING)
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines_random(
        [
            "*FAILED*test_wired*",
            "E *containers.gateway.GatewayContainer is not proved to keep its users apart:",
            "E *manager → * → connections ← Singleton*: one object for all keys; use Fresh, or Shared if it is safe",
            "E *user:alice: UserManager.record.events* and user:bob: UserManager.record.events* are one builtins.list",
            "E *Basket #1: Basket.items and Basket #2: Basket.items are one builtins.list",
            "E *Shop is not proved to keep its users apart:",
        ]
    )


def test_the_setting_audits_after_each_test_what_its_fixtures_hold(project: pytest.Pytester) -> None:
    project.makeini(INI + "bulkhead_audit = true\n")
    result = run(project, AUDITED)
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "user:alice: UserManager.record and user:bob: UserManager.record.events* are one *LifecycleRecord",
            "user:*: UserManager._connections.*.info and user:*: UserManager._connections.* are one *Session",
            "FAILED*::test_leak*",
            "E *assert not 'its own failure'",
            "FAILED*::test_leak_while_served*",
        ]
    )


def test_the_marker_audits_after_one_test(project: pytest.Pytester) -> None:
    result = run(project, MARKED)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED*test_audited*"])


def test_a_run_that_does_not_use_it_loads_nothing_of_it(pytester: pytest.Pytester) -> None:
    result = run(pytester, UNUSED)
    result.assert_outcomes(passed=1)
