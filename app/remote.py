"""Asks a gateway that runs in another process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from config import ConfigurationError, Problem, Settings

SECONDS = 300  # for an answer: an audit of many managers leaves half of the time to them


def local_address(host: str, port: int) -> str:
    """The address of a gateway that listens there, as its own machine reaches it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # Nobody can go to a wildcard.
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def request_audit(url: str, settings: Settings, users: Sequence[str]) -> dict[str, Any]:
    """Have a gateway audit its managers.

    It is asked directly: an API key must reach neither a proxy of the environment nor where a redirect leads.

    Args:
        url: its address, such as `http://127.0.0.1:8000`; empty: the one of the settings.
        settings: with the API key.
        users: ids of users to compare; empty: all.

    Raises:
        ConfigurationError: there is no key, no answer, or none that is a report.
    """
    url = url or local_address(settings.host, settings.port)
    if not settings.api_keys:
        raise ConfigurationError([Problem("api_keys", "no API key to ask with")])
    headers = {"X-API-Key": settings.api_keys[0].get_secret_value(), "Content-Type": "application/json"}
    try:
        parts = urlsplit(url)
        kind = {"http": HTTPConnection, "https": HTTPSConnection}[parts.scheme]
        connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            [Problem("--url", f"{url} is not the http:// or https:// address of a gateway")]
        ) from error
    try:
        body = json.dumps({"users": list(users) or None})
        connection.request("POST", f"{parts.path.rstrip('/')}/v1/isolation/audit", body, headers)
        response = connection.getresponse()
        text = response.read()
        answer = json.loads(text)
    except (OSError, HTTPException, ValueError) as error:
        raise ConfigurationError(
            [Problem("--url", f"{url} gives no answer: {str(error) or type(error).__name__}")]
        ) from error
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        detail = answer.get("detail") or answer.get("title") if isinstance(answer, dict) else ""
        raise ConfigurationError([Problem("--url", f"{url} answers {response.status}: {detail}")])
    return answer
