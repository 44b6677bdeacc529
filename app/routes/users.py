"""What operators do with users."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from app.dependencies import Container, CurrentControl
from app.problems import ProblemError
from app.realtime.control import UserReport
from app.realtime.modes import ModeKind
from app.routes.keyed import KeyedRoute
from app.routes.schemas import problem_answers
from config import ModeName


class Stream(BaseModel):
    """A stream of a user."""

    channel: str = Field(examples=["#alice"])
    epoch: str = Field(examples=["8c2f1a9d"])
    offset: int = Field(examples=[17])
    publications: int = Field(description="Kept for recovery.", examples=[17])


class Manager(BaseModel):
    """One manager's user: an isolated user has one for each session."""

    key: str = Field(examples=["user:alice"])
    mode: ModeName = Field(examples=["unified"])
    reason: str = Field(description="Who or what decided the mode.", examples=["default"])
    connections: list[str] = Field(description="Client ids.", examples=[["0b5c1c1e-7f5a-4f57-9d0c-2f6a5f1b8a11"]])
    streams: list[Stream]


class User(BaseModel):
    """What this node knows of a user."""

    user_id: str = Field(examples=["alice"])
    connections: int = Field(examples=[2])
    mode: ModeName = Field(description="Mode of the first manager.", examples=["unified"])
    streams: list[Stream]
    managers: list[Manager]


class Disconnected(BaseModel):
    """Connections that were ended."""

    disconnected: int = Field(examples=[2])


class ModeChange(BaseModel, extra="forbid"):
    """A mode to set; null gives the decision back to the configuration."""

    mode: ModeName | None = Field(examples=["degraded"])


class ModeChanged(BaseModel):
    """Managers that the change reached."""

    managers: int = Field(examples=[1])


class LifecycleEntry(BaseModel):
    """An event in the life of a manager."""

    at: float = Field(description="Seconds since the epoch.", examples=[1767225600.25])
    event: str = Field(examples=["connected"])
    key: str = Field(examples=["user:alice"])
    detail: str = Field(description="Client id, mode or close code.", examples=["0b5c1c1e-7f5a-4f57-9d0c-2f6a5f1b8a11"])


class Lifecycle(BaseModel):
    """The lives of managers."""

    living: int = Field(description="Managers that live now.", examples=[1])
    total: int = Field(description="Events since the start, kept or not.", examples=[12])
    events: list[LifecycleEntry] = Field(description="The newest, oldest of them first.")


Limit = Annotated[int, Query(ge=0, le=10_000, description="Events to give, at most.", examples=[20])]
UserId = Annotated[str, Path(description="The user.", examples=["alice"])]
router = APIRouter(prefix="/v1", tags=["operators"], route_class=KeyedRoute, responses=problem_answers(401, 422))


@router.put("/mode", responses=problem_answers(400, 413, 503))
async def set_mode(body: ModeChange, control: CurrentControl) -> ModeChanged:
    """Set the mode of every user."""
    return ModeChanged(managers=await control.set_mode(_kind(body)))


@router.put("/users/{user_id:path}/mode", responses=problem_answers(400, 409, 413, 503))
async def set_user_mode(user_id: UserId, body: ModeChange, control: CurrentControl) -> ModeChanged:
    """Set the mode of one user, connected or not."""
    return ModeChanged(managers=await control.set_mode(_kind(body), user_id))


@router.delete("/users/{user_id:path}/connections", responses=problem_answers(503))
async def disconnect(user_id: UserId, control: CurrentControl) -> Disconnected:
    """End every connection of a user, for good: SDKs do not come back by themselves (3503)."""
    return Disconnected(disconnected=await control.disconnect(user_id))


@router.get("/users/{user_id:path}", responses=problem_answers(404, 503))
async def get_user(user_id: UserId, control: CurrentControl) -> User:
    """Connections, mode and streams of a user; no content."""
    managers = [_manager(report) for report in await control.report(user_id)]
    if not managers:
        raise ProblemError(404, "unknown-user", "This user has no connection, request or stream here.")
    return User(
        user_id=user_id,
        connections=sum(len(manager.connections) for manager in managers),
        mode=managers[0].mode,
        streams=[stream for manager in managers for stream in manager.streams],
        managers=managers,
    )


@router.get("/lifecycle")
async def lifecycle(container: Container, limit: Limit = 100) -> Lifecycle:
    """Created, connected, disconnected, mode changed, closed."""
    log = container.lifecycle()
    entries = [
        LifecycleEntry(at=event.at, event=event.event, key=event.key, detail=event.detail)
        for event in log.events(limit)
    ]
    return Lifecycle(living=len(log), total=log.total, events=entries)


def _kind(body: ModeChange) -> ModeKind | None:
    return None if body.mode is None else ModeKind(body.mode)


def _manager(report: UserReport) -> Manager:
    streams = [
        Stream(channel=s.channel, epoch=s.position.epoch, offset=s.position.offset, publications=s.publications)
        for s in report.streams
    ]
    return Manager(
        key=report.key,
        mode=report.mode.value,
        reason=report.reason,
        connections=list(report.connections),
        streams=streams,
    )
