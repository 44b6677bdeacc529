"""Providers for dependency-injector that say who may reach an object.

* :class:`Fresh`: a new object at every call, checked.
* :class:`Shared`: one object for the container, with the reason why it may be shared.
* :class:`PerKey`: one instance per key, for as long as somebody holds it.

:class:`Claims` notes what an instance owns, and refuses it to every other key.
:func:`prove` shows that the instances of a container's ``PerKey`` providers share nothing but what is ``Shared``.

They are used like the providers of the library, in containers and alone.
"""

from .claims import Claims
from .errors import (
    AlreadyClaimedError,
    InvalidKeyError,
    MissingArgumentError,
    NotFreshError,
    NotWeakReferenceableError,
    ProviderError,
    RecursiveBuildError,
)
from .fresh import Fresh
from .per_key import PerKey
from .proof import Proof, ProofError, prove, prove_async
from .shared import Shared

__all__ = (
    "AlreadyClaimedError",
    "Claims",
    "Fresh",
    "InvalidKeyError",
    "MissingArgumentError",
    "NotFreshError",
    "NotWeakReferenceableError",
    "PerKey",
    "Proof",
    "ProofError",
    "ProviderError",
    "RecursiveBuildError",
    "Shared",
    "prove",
    "prove_async",
)
