"""What load balancers and monitoring ask."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.dependencies import Container, CurrentAuditor
from app.isolation import Auditor
from app.problems import Problem, problem_response
from app.routes.schemas import problem_answers


class LastAudit(BaseModel):
    """The last audit of all managers."""

    at: float = Field(description="When it ended, in seconds since the epoch.", examples=[1767225600.25])
    managers: int = Field(description="Managers that were compared.", examples=[2])
    findings: int = Field(description="Objects that two of them shared.", examples=[0])


class Isolation(BaseModel):
    """Whether users are apart."""

    status: Literal["healthy", "violated"] = Field(examples=["healthy"])
    total_managers: int = Field(description="Managers that live.", examples=[2])
    registered_users: int = Field(description="User keys with a manager.", examples=[2])
    lifecycle_events: int = Field(description="Events since the start.", examples=[12])
    violations: int = Field(description="Doubts about isolation since the start.", examples=[0])
    last_audit: LastAudit | None = Field(
        description="None if there was none.", examples=[{"at": 1767225600.25, "managers": 2, "findings": 0}]
    )


class BrokerHealth(BaseModel):
    """Whether publishes and reads work."""

    status: Literal["up", "down"] = Field(examples=["up"])


class Health(BaseModel):
    """The state of this node."""

    status: Literal["healthy", "unhealthy"] = Field(examples=["healthy"])
    version: str = Field(examples=["0.1.0"])
    mode: str = Field(description="Mode of a user for whom nothing else decides.", examples=["unified"])
    draining: bool = Field(description="It takes no new connections and is about to stop.")
    broker: BrokerHealth
    websocket_manager_isolation: Isolation


class Ready(BaseModel):
    """New connections and publishes are welcome."""

    status: Literal["ready"] = "ready"


router = APIRouter(tags=["operations"])


@router.get(
    "/health", response_model=Health, responses={503: {"model": Health, "description": "Unhealthy: the same body."}}
)
async def health(container: Container, auditor: CurrentAuditor) -> JSONResponse:
    """The state of this node; 503 when the broker is down or isolation is in doubt."""
    violations = container.metrics().violation_count()
    managers, keys = container.lifecycle().living(), container.manager.count()
    # Two living managers of one key are a violation, whoever has not noticed yet.
    violations += len(managers) - len({manager.key for manager in managers})
    up = container.broker().healthy()
    body = Health(
        status="healthy" if up and not violations else "unhealthy",
        version=version("bulkhead-gateway"),
        mode=container.policy().for_all.kind.value,
        draining=container.control().draining,
        broker=BrokerHealth(status="up" if up else "down"),
        websocket_manager_isolation=Isolation(
            status="violated" if violations else "healthy",
            total_managers=len(managers),
            registered_users=keys,
            lifecycle_events=container.lifecycle().total,
            violations=violations,
            last_audit=_last_audit(auditor),
        ),
    )
    return JSONResponse(body.model_dump(), 200 if body.status == "healthy" else 503)


def _last_audit(auditor: Auditor) -> LastAudit | None:
    last = auditor.last
    if last is None:
        return None
    return LastAudit(at=last.at, managers=last.report.owners, findings=len(last.report.shared))


@router.get("/ready", response_model=Ready, responses=problem_answers(503))
async def ready(container: Container) -> Response:
    """Whether a load balancer should send new users here."""
    if container.control().ready():
        return JSONResponse({"status": "ready"})
    return problem_response(Problem("urn:bulkhead:problem:not-ready", "Not ready", 503, "Draining, or no broker."))


@router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
async def metrics(container: Container) -> Response:
    """Metrics for Prometheus."""
    return Response(generate_latest(container.metrics().registry), media_type=CONTENT_TYPE_LATEST)
