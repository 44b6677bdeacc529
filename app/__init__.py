"""The gateway as an application.

`create_app` is loaded on first use, so that `app.realtime` can be imported without a web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.application import create_app

__all__ = ("create_app",)


def __getattr__(name: str) -> Any:
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from app.application import create_app

    return create_app
