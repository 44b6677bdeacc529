"""Another attempt at a publish whose fate is unknown."""

from __future__ import annotations

import pytest

from tests.broker.engines import redis_broker

KEY = "user:alice"


@pytest.mark.parametrize("key", [None, "k"])
async def test_an_attempt_that_arrived_is_not_published_again_and_is_no_duplicate_of_itself(
    valkey_url: str, key: str | None
) -> None:
    broker = redis_broker(valkey_url, node="n")
    await broker.start()
    try:
        first = await broker.publish(KEY, "news", "1", idempotency_key=key)  # its ticket is n-1
        again = await broker.publish(KEY, "news", "1", idempotency_key=key, ticket="n-1")
        assert (again.position, again.duplicate) == (first.position, False)
        other = await broker.publish(KEY, "news", "2", idempotency_key=key, ticket="n-0")
        assert (other.offset, other.duplicate) == ((1, True) if key else (2, False))
    finally:
        await broker.close()
