"""The gateway as an application.

`create_app` and `mount_gateway` are loaded on first use: `app.realtime` can be imported without a web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.application import create_app
    from app.mounting import mount_gateway

__all__ = ("create_app", "mount_gateway")


def __getattr__(name: str) -> Any:
    match name:
        case "create_app":
            from app.application import create_app

            return create_app
        case "mount_gateway":
            from app.mounting import mount_gateway

            return mount_gateway
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
