"""Ports for servers that tests stop and start again."""

from __future__ import annotations

import secrets
import socket

PORTS = range(20000, 32000)
"""Below those that systems give to outgoing connections: nobody takes the port of a server that is down for a while,
and a client that keeps trying it cannot reach itself."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
