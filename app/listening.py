"""Sockets that are listened on."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

USER_TIMEOUT_SECONDS = 30
PROBE_SECONDS = 60


class ListenError(OSError):
    """The address cannot be listened on; says why by `strerror`, and of which `port`."""

    def __init__(self, errno: int | None, strerror: str, port: int) -> None:
        """Keep the port."""
        super().__init__(errno, strerror)
        self.port = port


def listen(host: str, port: int, *, together: bool = False) -> socket.socket:
    """Bind a TCP socket; the server starts to listen on it when the application has started.

    On Linux a peer that has not acknowledged data, or has not made room for it, for 30 seconds is cut off by the kernel
    (TCP_USER_TIMEOUT, RFC 5482); one that is silent for a minute is asked whether it is there (TCP keep-alive).
    Connections inherit this from the socket that accepts them.

    Args:
        host: address or name.
        port: 0 chooses a free one.
        together: others that say so, too, can have the same port (SO_REUSEPORT).

    Raises:
        ListenError: the address is taken, not ours or unknown.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named for asyncio, which else leaves Nagle's algorithm on: 40 ms for every response but the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # Elsewhere it would let two servers share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if together:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_SECONDS)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS // 6)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_SECONDS * 1000)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ListenError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}", port) from error
    return listener


@contextmanager
def reserved(host: str, port: int) -> Iterator[None]:
    """Keep others out of a port for which `listen_together` has sockets that do not listen yet, and so refuse nobody.

    It holds for gateways that name the host alike and share the port, too.

    Raises:
        ListenError: another one is about to listen there.
    """
    with socket.socket(socket.AF_UNIX) as lock:
        if sys.platform == "linux" and port:  # elsewhere there is no such name, and no port that is shared
            try:
                lock.bind(f"\0bulkhead/{host}/{port}")
            except OSError as error:
                reason = f"cannot listen on {host} port {port}: {error.strerror}"
                raise ListenError(error.errno, reason, port) from error
        yield


def listen_together(host: str, port: int, count: int, *, spread: bool = sys.platform == "linux") -> list[socket.socket]:
    """Bind a port for several processes.

    Linux spreads connections evenly over sockets that share a port. With one socket for all, whoever is quickest takes
    most of a burst, and keeps it: WebSockets live long.

    Args:
        host: address or name.
        port: 0 chooses a free one.
        count: how many processes.
        spread: each gets a socket of its own; else all get the same one.

    Raises:
        ListenError: the address is taken, not ours or unknown.
    """
    with ExitStack() as stack:
        first = stack.enter_context(listen(host, port))
        if not spread:
            stack.pop_all()
            return [first] * count
        # The first one has made sure that nobody listens: those that share would join another gateway of this user.
        port = first.getsockname()[1]
        with ExitStack() as bound:
            listeners = [bound.enter_context(listen(host, port, together=True)) for _ in range(count)]
            bound.pop_all()
    return listeners
