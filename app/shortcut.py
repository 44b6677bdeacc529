"""The short way of an event to its route."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import as_problem_error, problem_response


class Shortcut:
    """ASGI middleware: takes requests for some routes straight to them.

    FastAPI's own way to a route (exit stacks, telemetry of the route, exception handlers, the search among all routers)
    costs several times what it takes to publish an event. These routes must need none of it: their ASGI application is
    called as it is. The errors of the gateway become problems here as anywhere.

    Args:
        app: what serves all other requests, and refuses other methods.
        routes: the routes.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[APIRoute]) -> None:
        """Take the routes."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, one way or the other."""
        if scope["type"] == "http":
            for route in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await self._run(route.app, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            problem = as_problem_error(error)
            if problem is None:
                raise
            await problem_response(problem.problem, problem.headers)(scope, receive, send)
