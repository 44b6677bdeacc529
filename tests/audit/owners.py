"""What the audits of these tests are about: owners with whatever attributes a test gives them."""

from __future__ import annotations

from typing import Any

from providers.audit import audit
from providers.report import Report


class Owner:
    """An owner of attributes."""

    def __init__(self, **attributes: Any) -> None:
        """Take the attributes."""
        vars(self).update(attributes)


def audited(*owners: object, **options: Any) -> Report:
    """An audit of owners that are called a, b, c ... in its report."""
    names = {id(owner): chr(ord("a") + number) for number, owner in enumerate(owners)}
    return audit(*owners, name=lambda owner: names[id(owner)], **options)
