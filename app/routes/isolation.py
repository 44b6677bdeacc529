"""What shows whether users are apart, when somebody asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from app.dependencies import CurrentAuditor
from app.isolation import Audited, AuditRunning, UnknownUsers
from app.problems import ProblemError
from app.routes.keyed import KeyedRoute
from app.routes.schemas import problem_answers
from providers.report import Finding


class Comparison(BaseModel, extra="forbid"):
    """Whose managers to compare."""

    users: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="User ids; all if they are left out.", examples=[["alice", "bob"]]
    )


class Place(BaseModel):
    """How an object is reached."""

    key: str = Field(description="Key of the manager.", examples=["user:alice"])
    path: str = Field(description="Attributes on the way from the manager.", examples=["UserManager.record.events"])


class CommonObject(BaseModel):
    """An object that several managers reach."""

    type: str = Field(examples=["builtins.list"])
    places: tuple[Place, Place] = Field(
        description="Two of the managers, and the way from each.",
        examples=[[{"key": f"user:{user}", "path": "UserManager.record.events"} for user in ("alice", "bob")]],
    )
    managers: int = Field(description="Managers that reach it.", examples=[2])


class AuditReport(BaseModel):
    """What an audit found: names and paths, nothing that users send."""

    isolated: bool = Field(description="No two managers share an object that can change.")
    at: float = Field(description="When it ended, in seconds since the epoch.", examples=[1767225600.25])
    seconds: float = Field(description="Time of the event loop that it took.", examples=[0.004])
    managers: int = Field(description="Managers that were compared.", examples=[2])
    objects: int = Field(description="Objects that they reach.", examples=[310])
    shared: list[CommonObject] = Field(description="Each is an incident.")
    weak: list[CommonObject] = Field(description="Reached by a weak reference of one of the two; worth a look.")
    unread: list[str] = Field(description="Types that hide what their objects refer to.", examples=[[]])
    truncated: bool = Field(description="There is more than what is listed.")


router = APIRouter(prefix="/v1", tags=["operators"], route_class=KeyedRoute, responses=problem_answers(401, 422))


@router.post("/isolation/audit", responses=problem_answers(400, 404, 409, 413))
async def audit(
    auditor: CurrentAuditor, body: Annotated[Comparison | None, Body(examples=[{"users": ["alice", "bob"]}])] = None
) -> AuditReport:
    """Walk what managers reach, all or those of some users, and tell what two of them share."""
    try:
        return _report(await auditor.audit(None if body is None else body.users))
    except AuditRunning:
        raise ProblemError(409, "audit-running", "One audit at a time: wait for the end of the last one.") from None
    except UnknownUsers as error:
        raise ProblemError(404, "unknown-user", f"{error}.") from None


def _report(audited: Audited) -> AuditReport:
    report = audited.report
    return AuditReport(
        isolated=report.isolated,
        at=audited.at,
        seconds=audited.seconds,
        managers=report.owners,
        objects=report.objects,
        shared=list(map(_object, report.shared)),
        weak=list(map(_object, report.weak)),
        unread=list(report.unread),
        truncated=report.truncated,
    )


def _object(finding: Finding) -> CommonObject:
    places = (Place(key=place.owner, path=place.path) for place in (finding.first, finding.second))
    return CommonObject(type=finding.type, places=(next(places), next(places)), managers=finding.owners)
