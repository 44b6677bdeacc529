"""The numbers in the examples of a reverse proxy and a service fit the defaults of the settings."""

from __future__ import annotations

import re

from config import Settings
from tests.docs.pages import ROOT, blocks


def number(name: str) -> float:
    """The seconds that the page gives for a directive."""
    page = "".join(block.text for block in blocks(ROOT / "docs" / "operations.md"))
    (found,) = re.findall(rf"^\s*{name}[ =](\d+)", page, re.MULTILINE)
    return float(found)


def test_the_proxy_waits_for_longer_than_a_client_may_be_silent() -> None:
    ping = Settings().ping
    assert number("proxy_read_timeout") > ping.interval + ping.timeout


def test_the_service_is_killed_later_than_the_gateway_needs_to_stop() -> None:
    assert number("TimeoutStopSec") > Settings().shutdown.grace_seconds
