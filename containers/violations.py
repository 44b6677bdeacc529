"""What is met while a manager is given its parts, and means that users could come to share one."""

from __future__ import annotations

import logging

from app.realtime.auth_token import InvalidAuthToken
from app.realtime.metrics import Metrics
from app.realtime.violation import IsolationViolation
from providers import AlreadyClaimedError, NotFreshError

logger = logging.getLogger(__name__)

Violation = AlreadyClaimedError | NotFreshError | InvalidAuthToken
VIOLATIONS = (AlreadyClaimedError, NotFreshError, InvalidAuthToken)


def violation(error: Violation, key: str, metrics: Metrics) -> IsolationViolation:
    """Count and log what refuses a user key a part, and give the error for who asked: it tells nothing of others."""
    net, owner = "fresh", ""
    if isinstance(error, AlreadyClaimedError):
        net, owner = "claim", str(error.owner)
    elif isinstance(error, InvalidAuthToken):
        net = "token"
    metrics.violations.labels(net).inc()
    # Its text: whoever keeps log records must not keep the error, whose frames hold what is another's.
    logger.error("isolation violated: %s", str(error), extra={"net": net, "refused": key, "owner": owner})
    return IsolationViolation(key, net)
