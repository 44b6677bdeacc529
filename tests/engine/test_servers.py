"""The servers that tests run against do what their names say."""

from __future__ import annotations

import psutil
import pytest
import redis

from tests.engine.cluster import Cluster
from tests.engine.fixtures import Engines
from tests.engine.server import StandAlone

pytestmark = pytest.mark.nodes


def test_a_shared_server_is_empty_at_the_start_of_each_test(stand_alone: StandAlone) -> None:
    assert stand_alone.call("DBSIZE") == 0
    stand_alone.call("SET", "left", "behind")


def test_a_shared_server_was_emptied_after_the_test_before(stand_alone: StandAlone) -> None:
    assert stand_alone.call("DBSIZE") == 0


def test_servers_are_of_version_7_or_later_and_listen_on_loopback_alone(stand_alone: StandAlone) -> None:
    assert int(stand_alone.call("INFO")["redis_version"].partition(".")[0]) >= 7
    listening = psutil.Process(stand_alone.process.pid).net_connections("inet")
    assert {each.laddr for each in listening if each.status == "LISTEN"} == {("127.0.0.1", stand_alone.port)}


@pytest.mark.parametrize("lasting", [True, False])
def test_what_a_killed_server_knows_after_its_restart_depends_on_persistence(engines: Engines, lasting: bool) -> None:
    server = engines.stand_alone(lasting=lasting)
    server.call("SET", "key", "value")
    server.kill()
    with pytest.raises(redis.ConnectionError):
        server.call("PING")
    server.restart()
    assert server.call("GET", "key") == ("value" if lasting else None)


def test_a_paused_server_answers_when_it_goes_on(engines: Engines) -> None:
    server = engines.stand_alone()
    server.pause()
    with pytest.raises(redis.TimeoutError):
        server.call("PING", seconds=0.2)
    server.resume()
    assert server.call("PING")


def test_a_stopped_server_starts_again_with_its_own_configuration(engines: Engines) -> None:
    server = engines.stand_alone(config={"maxmemory": "7mb"})
    first = server.process.pid
    server.stop()
    server.restart()
    assert server.process.pid != first
    assert server.call("CONFIG", "GET", "maxmemory") == ["maxmemory", str(7 * 1024 * 1024)]


def test_a_server_that_cannot_start_says_why(engines: Engines) -> None:
    with pytest.raises(AssertionError, match=r"has ended:\n(.*\n)*.*no-such-directive"):
        engines.stand_alone(config={"no-such-directive": "1"})


def test_no_server_outlives_its_block_even_paused(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> None:
    with StandAlone(engines.program, tmp_path_factory.mktemp("own") / "server") as server:
        server.pause()
    assert not psutil.pid_exists(server.process.pid)


def test_every_slot_of_the_shared_cluster_has_a_master(cluster: Cluster) -> None:
    masters = {cluster.master_of(f"key-{number}") for number in range(30)}
    assert masters == set(cluster.masters)
    for number in range(30):
        cluster.master_of(f"key-{number}").call("SET", f"key-{number}", "value")
    cluster.clear()
    assert [node.call("DBSIZE") for node in cluster.masters] == [0, 0, 0]


@pytest.mark.parametrize("failure", ["kill", "pause"])
def test_the_replica_of_a_failed_master_takes_over(engines: Engines, failure: str) -> None:
    cluster = engines.cluster(replicas=True)
    master = cluster.master_of("key")
    replica = cluster.replicas[cluster.masters.index(master)]
    master.call("SET", "key", "value")
    assert master.call("WAIT", 1, 5000) == 1
    getattr(master, failure)()
    cluster.wait_until_moved("key", replica)
    assert replica.call("GET", "key") == "value"


def test_sentinels_let_the_replica_take_over(engines: Engines) -> None:
    sentinel = engines.sentinel(sentinels=3)
    sentinel.wait_until_serving(sentinel.master)
    sentinel.master.call("SET", "key", "value")
    assert sentinel.master.call("WAIT", 1, 5000) == 1
    sentinel.master.kill()
    sentinel.wait_until_serving(sentinel.replica)
    assert sentinel.replica.call("GET", "key") == "value"
