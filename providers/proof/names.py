"""How providers and values are named: by their classes and the code they call, never by what they hold."""

from __future__ import annotations

from typing import Any

from dependency_injector.providers import is_provider

from providers.errors import MissingArgumentError, describe
from providers.shared import Shared


def provider_name(provider: object) -> str:
    """Give the class of a provider, such as ``Singleton``."""
    return type(provider).__name__


def provides_name(provider: Any) -> str:
    """Give what a provider calls or holds, such as ``app.Manager``; never a value."""
    # Not by getattr alone: some providers answer to every name.
    if not hasattr(type(provider), "provides") or provider.provides is None:
        return ""
    return describe_value(provider.provides)


def describe_value(value: object) -> str:
    """Name a plain value: code by its name, anything else by its class."""
    return type(value).__name__ if is_provider(value) else describe(value)


def reason(provider: object) -> str:
    """Give the reason of a :class:`Shared`; empty if there is none, which the judge refuses."""
    try:
        return provider.reason if isinstance(provider, Shared) else ""
    except MissingArgumentError:
        return ""


def key_name(key: object) -> str:
    """Give a key of a provider that is a name; of any other the class, as it is a value."""
    return key if isinstance(key, str) else describe_value(key)
