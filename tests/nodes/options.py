"""How the nodes of these tests are set."""

from __future__ import annotations

from typing import Any

TIMEOUT = 0.6
CHECK_INTERVAL = 0.2
PRESENCE_TTL = 1.5


def settings(broker_url: str, **further: Any) -> dict[str, Any]:
    """Settings of a node that finds out quickly. Who has the claim `tier` with the value `apart` is isolated."""
    broker = {
        "url": broker_url,
        "timeout": TIMEOUT,
        "check_interval": CHECK_INTERVAL,
        "presence_ttl": PRESENCE_TTL,
    }
    return {
        "broker": broker | further.pop("broker", {}),
        "mode_rules": [{"claim": "tier", "equals": "apart", "mode": "isolated"}],
        "shutdown": {"drain_seconds": 0.1},
        "history": {"size": 5000},
        **further,
    }
