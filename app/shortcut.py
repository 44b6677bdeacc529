"""The short way of an event to its route."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.guard import is_exact
from app.problems import as_problem_error, problem_response


class Shortcut:
    """ASGI middleware: takes requests for some routes straight to them.

    FastAPI's own way to a route (exit stacks, telemetry of the route, exception handlers, the search among all routers)
    costs several times what it takes to publish an event. These routes must need none of it: their ASGI application is
    called as it is. The errors of the gateway become problems here as anywhere. This stands before `RequestGuard`, so
    the routes bound the bodies that they read; what the guard would refuse goes there.

    Args:
        app: what serves all other requests, and refuses other methods.
        routes: the routes, all of them for POST, with parameters that are text.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[APIRoute]) -> None:
        """Take the routes."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, one way or the other."""
        if scope["type"] == "http" and scope["method"] == "POST" and is_exact(scope):
            path = route_path(scope)
            for route in self._routes:
                if (found := route.path_regex.match(path)) is not None:
                    scope["path_params"] = found.groupdict()
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


def route_path(scope: Scope) -> str:
    """The path as routes know it: of a mounted application, and behind a proxy that strips a prefix, what follows it.

    ASGI has `root_path` at the start of `path`. Where it is not, the path is taken as it is, as Starlette does.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and f"{path}/".startswith(f"{root}/") else path
