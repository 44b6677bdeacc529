"""Providers for dependency-injector that say who may reach an object.

* :class:`Fresh`: a new object at every call, checked.
* :class:`Shared`: one object for the container, with the reason why it may be shared.
* :class:`PerKey`: one instance per key, for as long as somebody holds it.

They are used like the providers of the library, in containers and alone.
"""

from .errors import (
    InvalidKeyError,
    MissingArgumentError,
    NotFreshError,
    NotWeakReferenceableError,
    ProviderError,
    RecursiveBuildError,
)
from .fresh import Fresh
from .per_key import PerKey
from .shared import Shared

__all__ = (
    "Fresh",
    "InvalidKeyError",
    "MissingArgumentError",
    "NotFreshError",
    "NotWeakReferenceableError",
    "PerKey",
    "ProviderError",
    "RecursiveBuildError",
    "Shared",
)
