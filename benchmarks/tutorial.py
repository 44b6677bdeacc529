"""The baseline of delivery: the connection manager that FastAPI's tutorial teaches, by user."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel


class ConnectionManager:
    """A dict of users, each with the sockets they have open."""

    def __init__(self) -> None:
        self.active: dict[str, list[WebSocket]] = {}

    async def connect(self, user_id: str, websocket: WebSocket) -> None:
        """Take a socket."""
        await websocket.accept()
        self.active.setdefault(user_id, []).append(websocket)

    def disconnect(self, user_id: str, websocket: WebSocket) -> None:
        """Let a socket go."""
        self.active[user_id].remove(websocket)
        if not self.active[user_id]:
            del self.active[user_id]

    async def send(self, user_id: str, event: dict[str, Any]) -> int:
        """Send an event to the sockets of a user; their number."""
        sockets = self.active.get(user_id, [])
        for websocket in sockets:
            await websocket.send_text(json.dumps(event))
        return len(sockets)


class Event(BaseModel):
    """The body of a publish."""

    type: str
    data: Any
    thread_id: str | None = None


def tutorial_app(manager: ConnectionManager) -> FastAPI:
    """An application with a route to connect and a route to publish."""
    app = FastAPI(openapi_url=None)

    @app.websocket("/ws/{user_id}")
    async def connect(websocket: WebSocket, user_id: str) -> None:
        await manager.connect(user_id, websocket)
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            manager.disconnect(user_id, websocket)

    @app.post("/users/{user_id}/events")
    async def publish(user_id: str, event: Event) -> dict[str, int]:
        return {"connections": await manager.send(user_id, event.model_dump(exclude_none=True))}

    return app
