"""Row: one key per logical user. Row: anonymous users are isolated."""

from __future__ import annotations

import pytest

from app.realtime.identity import IdentityError, UserContext
from containers import GatewayContainer
from tests.gateway import build_container, serving


def test_a_hundred_requests_without_an_identity_are_a_hundred_errors_and_no_manager(
    container: GatewayContainer,
) -> None:
    for number in range(100):
        with pytest.raises(
            IdentityError, match="no identity: give user_id, or session_id, or thread_id and request_id"
        ):
            container.manager(UserContext(request_id=f"request-{number}"))
        with pytest.raises(IdentityError, match="no identity"):
            container.manager(UserContext(thread_id=f"thread-{number}"))
    assert len(container.lifecycle().events(10)) == 0


def test_a_hundred_requests_of_one_session_without_a_user_are_one_manager(container: GatewayContainer) -> None:
    managers = [
        container.manager(UserContext(session_id="browser", thread_id="t", request_id=f"request-{number}"))
        for number in range(100)
    ]
    assert len({id(manager) for manager in managers}) == container.manager.count() == 1


def test_a_hundred_requests_of_one_user_are_one_manager_whatever_else_they_carry(container: GatewayContainer) -> None:
    managers = [
        container.manager(
            UserContext(user_id="alice", session_id=f"s{number}", request_id=f"r{number}", claims={"number": number})
        )
        for number in range(100)
    ]
    assert len({id(manager) for manager in managers}) == container.manager.count() == 1


def test_before_and_after_login_are_two_users_who_never_meet(container: GatewayContainer) -> None:
    # Who is not signed in is nobody's user yet: what they have must not become the user's by signing in.
    before = container.manager(UserContext(session_id="browser"))
    after = container.manager(UserContext(user_id="alice", session_id="browser"))
    again = container.manager(UserContext(user_id="alice"))
    assert before is not after
    assert after is again
    assert (before.key, after.key) == ("session:browser", "user:alice")


async def test_anonymous_users_each_have_a_manager_of_their_own() -> None:
    async with serving(build_container(auth={"anonymous": True})) as gateway:
        async with gateway.client() as one, gateway.client() as two, gateway.client() as three:
            subjects = []
            for client in (one, two, three):
                result = await client.result("connect", {})
                subjects.extend(result["subs"])
            assert len(set(subjects)) == 3
            managers = gateway.container.lifecycle().living()
            assert len({manager.key for manager in managers}) == len(managers) == 3
            await managers[0].emit("secret", "for one")
            got = await next(
                client
                for client, subject in zip((one, two, three), subjects, strict=True)
                if subject == managers[0].personal_channel
            ).push()
            assert got["pub"]["data"]["data"] == "for one"
            for client, subject in zip((one, two, three), subjects, strict=True):
                if subject != managers[0].personal_channel:
                    await client.nothing()


async def test_anonymous_access_is_off_unless_switched_on() -> None:
    async with serving() as gateway, gateway.client() as client:
        await client.send({"id": 1, "connect": {}})
        assert (await client.closed())[0] == 3500
        assert gateway.container.manager.count() == 0
