"""Names of channels."""

from __future__ import annotations

from app.realtime.identity import IdentityError, check_id


def channel_of(name: str | None, personal: str) -> str:
    """The channel that a back end means: the user's personal one, if it names none.

    Raises:
        IdentityError: the name breaks the rules of ids, or is another personal channel, which nobody could read.
    """
    if name is None or name == personal:
        return personal
    if check_id("channel", name).startswith("#"):
        raise IdentityError("channel", "starts with #, as personal channels do; leave it out for the user's own")
    return name
