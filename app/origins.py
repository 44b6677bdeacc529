"""Which web pages may connect (RFC 6454): without this check, any page could connect as its visitor."""

from __future__ import annotations

from starlette.datastructures import Headers


class OriginCheck:
    """Compares `Origin`, which browsers always send with a WebSocket and pages cannot forge.

    Args:
        origins: exact origins; `*` allows all.
        same_origin: also allow the host and port that the request itself went to.
    """

    def __init__(self, origins: tuple[str, ...], same_origin: bool) -> None:
        """Take the list."""
        self._origins = frozenset(origins)
        self._same_origin = same_origin

    def allows(self, headers: Headers) -> bool:
        """Whether the request may go on. Without an `Origin` it is no browser's, and only its token counts."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        return self._same_origin and origin.partition("://")[2] == headers.get("host")
