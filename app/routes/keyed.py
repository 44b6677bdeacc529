"""Routes for holders of an API key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Security
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from starlette.requests import Request
from starlette.responses import Response

from app.dependencies import check_api_key

header = APIKeyHeader(name="X-API-Key", scheme_name="ApiKey", description="A key of `api_keys`.", auto_error=False)


class KeyedRoute(APIRoute):
    """Lets holders of a key pass. FastAPI reads and parses a body before it solves dependencies, so this is none.

    As a dependency the key is only described, for OpenAPI.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        dependencies: Sequence[Dependency] | None = None,
        **described: Any,
    ) -> None:
        """See `APIRoute`."""
        super().__init__(path, endpoint, dependencies=[*(dependencies or ()), Security(header)], **described)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            check_api_key(request.scope)
            return await handle(request)

        return checked
