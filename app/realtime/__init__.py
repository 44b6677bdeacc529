"""The gateway itself: who a user is, their manager, its connections and streams.

Knows no web framework and no container.
"""

from app.realtime.identity import UserContext

__all__ = ("UserContext",)
