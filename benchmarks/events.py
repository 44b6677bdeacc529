"""What is published, and the wire of each subject, for both sides."""

from __future__ import annotations

import json
import re
from typing import Any

EVENT_BYTES = 130
SUBJECTS = ("gateway", "tutorial", "bare")
AUDITED = "audited"  # the gateway with audits in the background
GATEWAYS = ("gateway", AUDITED)
HMAC_SECRET = "benchmark-secret-of-at-least-32-bytes"
API_KEY = "benchmark-key-16"

# Events carry the time at which they were made, by the clock of the machine, in 19 digits; readers count by it.
STAMP = re.compile(rb'"t": ?(\d{19})')
STAMP_BYTES = 24


def event(at: int) -> dict[str, Any]:
    """An event of 130 bytes of JSON, made at this many nanoseconds since the epoch."""
    return {"type": "token", "data": {"text": _TEXT, "t": at}}


def user(number: int) -> str:
    """The id of a user."""
    return f"user-{number:05}"


def socket_path(subject: str, number: int) -> str:
    """Where a user connects."""
    return "/connection/websocket" if subject in GATEWAYS else f"/ws/{user(number)}"


def publish_path(subject: str, number: int) -> str:
    """Where one publishes to a user over HTTP."""
    return f"/v1/users/{user(number)}/events" if subject in GATEWAYS else f"/users/{user(number)}/events"


_TEXT = "x" * (EVENT_BYTES - len(json.dumps({"type": "token", "data": {"text": "", "t": 10**18}})))
