"""Who owns an object, known from its creation on."""

from __future__ import annotations

from collections.abc import Hashable

from .errors import AlreadyClaimedError, NotWeakReferenceableError
from .living import Living


class Claims:
    """Claims objects for keys, so that none gets into the hands of two.

    Claim what an instance owns for its key as it is built, before anyone can use it. A claim takes constant time,
    however many there are, keeps no object alive, and ends with its object; the key is kept as long.

    Any thread may claim at any time, for one key one at a time, as :class:`~providers.PerKey` builds. Of two that claim
    one object for two keys at once, one is refused, or both are.

    >>> from providers import Claims
    >>> class Basket:
    ...     pass
    >>> claims = Claims()
    >>> basket = Basket()
    >>> claims.claim("alice", basket)
    >>> claims.claim("bob", Basket(), basket)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    providers.errors.AlreadyClaimedError: this ... is another key's: let it be made anew for each key, ...
    """

    __slots__ = ("__weakref__", "_living")

    def __init__(self) -> None:
        self._living = Living()

    def claim(self, key: Hashable, *objects: object) -> None:
        """Claim objects for a key: all of them or, with an error, none.

        A key may claim again what it has: the next instance of a key may be given what an earlier one has left.

        :param key: whose the objects are from now on; compared by equality.
        :param objects: told apart by identity.
        :raises AlreadyClaimedError: another key has one of the objects. Its claim stands.
        :raises NotWeakReferenceableError: one of the objects has no weak references, so that nothing could be promised.
        """
        made: list[object] = []
        for value in objects:
            try:
                noted = self._living.note(value, key)
            except TypeError:
                self._withdraw(made)
                raise NotWeakReferenceableError(self, type(value)) from None
            if noted is None:
                made.append(value)
            elif noted.key != key:
                self._withdraw(made)
                raise AlreadyClaimedError(type(value), key, noted.key)

    def _withdraw(self, objects: list[object]) -> None:
        for value in objects:
            self._living.drop(value)
