"""The container: the one place that says what is fresh, what is shared, and what is keyed by the user."""

from containers.gateway import GatewayContainer

__all__ = ("GatewayContainer",)
