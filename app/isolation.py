"""The audit of a gateway that serves: when somebody asks, and in the background within a share of the CPU."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import chain, repeat, zip_longest

from fastapi import FastAPI
from fastapi.datastructures import DefaultPlaceholder
from starlette.applications import Starlette
from starlette.datastructures import State
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.realtime.manager import UserManager
from config.sections import IsolationSettings
from containers import GatewayContainer
from providers.audit import Audit
from providers.reach import reachable
from providers.report import Finding, Report
from providers.sharing import shared_objects

STOP = (DefaultPlaceholder, ProxyHeadersMiddleware)
"""Classes of the framework, and of the server around the application, whose objects all may reach."""

SLICE_SECONDS = 0.002  # of the event loop, then others have their turn
MOST = 0.5  # of one CPU, for an audit that was asked for
KNOWN_FINDINGS = 1000  # are remembered, so that they are not counted again

logger = logging.getLogger(__name__)


class AuditRunning(Exception):
    """An audit that was asked for is not over yet."""


class UnknownUsers(LookupError):
    """Users were named that have no manager.

    Attributes:
        user_ids: theirs.
    """

    def __init__(self, user_ids: Collection[str]) -> None:
        """Keep the ids."""
        super().__init__(f"no manager lives of {', '.join(map(repr, sorted(user_ids)))}")
        self.user_ids = tuple(sorted(user_ids))


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit that is over.

    Attributes:
        at: seconds since the epoch.
        seconds: time of the event loop that it took.
        report: what it found: names and paths, nothing of what users send.
    """

    at: float
    seconds: float
    report: Report


class Auditor:
    """Audits the managers of an application: one audit at a time, in slices of 2 ms.

    What the container shares and what belongs to the ASGI application is no finding. Whatever is found is counted as a
    violation (`net="audit"`) and logged: not again in each pass, but again when more users reach it, or when it comes
    back after it was gone.

    Used in the event loop of the gateway alone.

    Args:
        app: the application, whose parts the tasks of all connections run through.
        container: what it is made of.
    """

    def __init__(self, app: FastAPI, container: GatewayContainer) -> None:
        """Nothing is audited yet."""
        self._apps: list[Starlette] = [app]
        self._container = container
        self._parts: tuple[object, ...] = ()
        self._since = 0.0
        self._asked = False
        self._requests = 0
        self._known: dict[object, list[int]] = {}
        self._last: Audited | None = None

    def count_in(self, app: Starlette) -> None:
        """Let an application that mounts this one belong to it, before the start."""
        self._apps.append(app)

    @property
    def parts(self) -> tuple[object, ...]:
        """What belongs to the ASGI application, as it was when the gateway started; nothing before."""
        return self._parts

    @property
    def last(self) -> Audited | None:
        """The last audit of all managers."""
        return self._last

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start to stop: audits in the background, if `isolation.audit_share` says so."""
        clock, settings = self._container.clock(), self._container.settings().isolation
        self._parts = tuple(part for app in self._apps for part in parts_of(app, self._container))
        self._since = clock.monotonic()
        self._container.metrics().audit_age.set_function(lambda: clock.monotonic() - self._since)
        sampler = asyncio.create_task(self._sample(settings)) if settings.audit_share else None
        try:
            yield
        finally:
            if sampler is not None:
                sampler.cancel()
                await asyncio.wait((sampler,))

    async def audit(self, user_ids: Collection[str] | None = None) -> Audited:
        """Audit the managers of some users, or of all. One in the background gives way, and begins again in its time.

        Raises:
            AuditRunning: the one that was asked for before is not over.
            UnknownUsers: some of the users have no manager.
        """
        if self._asked:
            raise AuditRunning
        self._asked = True
        self._requests += 1
        try:
            audited = await self._run(self._managers(user_ids), MOST)
        finally:
            self._asked = False
        self._note(audited, of_all=user_ids is None)
        return audited

    async def _sample(self, settings: IsolationSettings) -> None:
        while True:
            await self._wait(settings.audit_interval)
            if self._asked:
                continue
            try:
                self._note(await self._run(self._managers(), settings.audit_share, gives_way=True))
            except GaveWay:
                logger.debug("an audit gave way to one that was asked for")
            except Exception as error:  # noqa: BLE001 - the next one may fare better, and the age of the last is seen
                logger.error("an audit failed: %s", type(error).__name__)  # its text could carry what users send

    async def _wait(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._container.clock().call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _managers(self, user_ids: Collection[str] | None = None) -> list[UserManager]:
        """The managers that live: those that the container finds, and those that it does not find any more."""
        living = (*self._container.manager.instances(), *self._container.lifecycle().living())
        if user_ids is None:
            return list(living)
        if unknown := set(user_ids) - {manager.context.user_id for manager in living}:
            raise UnknownUsers(unknown)
        return [manager for manager in living if manager.context.user_id in user_ids]

    async def _run(self, managers: list[UserManager], share: float, *, gives_way: bool = False) -> Audited:
        requests = self._requests
        spent, began = 0.0, time.perf_counter()  # what the budget is about: the CPU, not the clock of the gateway
        shared = (*shared_objects(self._container), *self._parts)
        with closing(Audit(managers, shared=shared, stop=STOP, name=key_of)) as audit:
            del managers  # or it would keep them alive
            over = False
            while not over:
                over = audit.step(SLICE_SECONDS)
                took = time.perf_counter() - began
                spent += took
                await asyncio.sleep(took * (1 / share - 1))
                if gives_way and requests != self._requests:
                    raise GaveWay
                began = time.perf_counter()
            return Audited(self._container.clock().time(), spent, audit.report())

    def _note(self, audited: Audited, *, of_all: bool = True) -> None:
        """Tell operators."""
        metrics = self._container.metrics()
        found: defaultdict[object, list[Finding]] = defaultdict(list)
        for finding in sorted(audited.report.shared, key=lambda finding: -finding.owners):
            found[identity_of(finding)].append(finding)
        if of_all and not audited.report.truncated:  # what is not there any more is new when it comes again
            self._known = {identity: owners for identity, owners in self._known.items() if identity in found}
        for identity, findings in found.items():
            known = self._known.pop(identity, [])  # and to the end: what is found again is remembered longest
            owners = [finding.owners for finding in findings]
            for finding, before in zip(findings, chain(known, repeat(0)), strict=False):
                if finding.owners > before:
                    metrics.violations.labels("audit").inc()
                    logger.error("users share an object", extra=fields_of(finding))
            if not of_all:  # others may share it as well
                owners = [max(each) for each in zip_longest(owners, known, fillvalue=0)]
            self._known[identity] = owners
            if len(self._known) > KNOWN_FINDINGS:
                del self._known[next(iter(self._known))]
        if of_all:
            self._last = audited
            self._since = self._container.clock().monotonic()
            metrics.audits.inc()
            metrics.audit_findings.set(len(audited.report.shared))
            metrics.audit_seconds.set(audited.seconds)


class GaveWay(Exception):
    """An audit in the background made room for one that was asked for."""


def parts_of(app: Starlette, container: GatewayContainer) -> Iterator[object]:
    """What of an ASGI application can change, and all connections run through: routes, middleware, closures of both.

    Asked before users come, so that nothing of theirs is among it.
    """
    if app.middleware_stack is None:  # Starlette would build it with the first request
        app.middleware_stack = app.build_middleware_stack()
    for reached in reachable(app, shared=shared_objects(container), stop=(State, type)):
        if reached.mutable:
            yield reached.object


def key_of(manager: UserManager) -> str:
    """The user key of a manager."""
    return manager.key


def identity_of(finding: Finding) -> object:
    """What is the same when the same is found again: numbers in a path may have changed by then."""
    places = ((place.owner, re.sub(r"\[\d+\]", "[]", place.path)) for place in (finding.first, finding.second))
    return finding.type, frozenset(places)


def fields_of(finding: Finding) -> dict[str, object]:
    """A finding, for a structured log."""
    return {
        "type": finding.type,
        "first": finding.first.owner,
        "first_path": finding.first.path,
        "second": finding.second.owner,
        "second_path": finding.second.path,
        "managers": finding.owners,
    }
