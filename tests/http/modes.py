"""What tests of modes do: set them, publish under them, read what clients are told and what is counted."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

EVENT = MappingProxyType({"type": "hello", "data": 1})


async def metric(api: httpx.AsyncClient, name: str, **labels: str) -> float:
    families = text_string_to_metric_families((await api.get("/metrics")).text)
    samples = (sample for family in families for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def set_mode(api: httpx.AsyncClient, mode: str | None, user: str | None = None) -> int:
    path = "/v1/mode" if user is None else f"/v1/users/{user}/mode"
    response = await api.put(path, json={"mode": mode})
    assert response.status_code == 200, response.text
    managers: int = response.json()["managers"]
    return managers


async def publish(api: httpx.AsyncClient, user: str = "alice", **fields: Any) -> httpx.Response:
    return await api.post(f"/v1/users/{user}/events", json={**EVENT, **fields})


def told(push: dict[str, Any]) -> tuple[str, str]:
    """Mode and reason of a message to the connection."""
    data = push["message"]["data"]
    assert data.keys() == {"type", "mode", "reason"}
    assert data["type"] == "mode"
    return data["mode"], data["reason"]
