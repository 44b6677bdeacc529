"""The map of the system."""

from __future__ import annotations

from dependency_injector import containers, providers

from app.realtime.auth_token import AuthToken, TokenIssuer
from app.realtime.clock import SystemClock
from app.realtime.connection import ClientConnection
from app.realtime.connections import ConnectionTable
from app.realtime.lifecycle import LifecycleRecord
from app.realtime.manager import UserManager
from app.realtime.metrics import Metrics
from app.realtime.modes import ManagerMode
from app.realtime.outbound import Turn
from app.realtime.services import Services
from config import load_settings
from containers import engine, factories, identity
from providers import Claims, Fresh, PerKey, Shared


class GatewayContainer(containers.DeclarativeContainer):
    """What a gateway is made of, and whose each part is.

    `Shared` parts are reached from every user, each for the reason given. `Fresh` parts are made anew for every manager
    or connection. `manager` is the wall: one for each user key, alive as long as somebody holds it. Two containers
    share nothing, so several gateways live in one process.

    `container.manager(context)` gives the manager of a `UserContext`; every provider can be overridden as
    dependency-injector documents it.

    A container of your own is a copy, so that the inherited parts see what it replaces:

        @containers.copy(GatewayContainer)
        class ShopContainer(GatewayContainer):
            rpc = providers.Dict({"cart.total": providers.Object(total)})
    """

    # Reached from every user.
    settings = Shared(load_settings, reason="frozen; read once at start")
    clock = Shared(SystemClock, reason="keeps no state")
    metrics = Shared(Metrics, reason="numbers without users; no label carries an identity")
    token_issuer = Shared(TokenIssuer, reason="its secret signs every token and leaves nobody's hands")
    policy = Shared(factories.policy, settings, clock, reason="what operators set must outlive managers; keyed by user")
    keys = Shared(factories.keys, policy, reason="a pure function of the policy and the context")
    lifecycle = Shared(factories.lifecycle, settings, clock, metrics, reason="events and weak references; no content")
    broker = Shared(
        engine.broker, settings, clock, metrics, reason="keyed by user in every call; delivers to that key alone"
    )
    backlog = Shared(
        factories.backlog, settings, metrics, reason="keyed by user in every call; only the publisher reads it"
    )
    authenticator = Shared(identity.authenticator, settings, clock, reason="verifies tokens and keeps none")
    publisher = Shared(
        factories.publisher, settings, clock, policy, broker, backlog, metrics, reason="keyed by user in every call"
    )
    claims = Shared(Claims, reason="weak references and keys; refuses what another key has, and gives nothing out")
    rpc = providers.Dict()
    services = Shared(
        Services,
        options=Shared(factories.session_options, settings, reason="frozen"),
        clock=clock,
        broker=broker,
        publisher=publisher,
        authenticator=authenticator,
        rpc=rpc,
        turn=Shared(Turn, reason="holds queues until the end of a turn of the event loop"),
        reason="a tuple of shared parts",
    )

    # One user's own.
    mode: Fresh[ManagerMode] = Fresh(factories.mode, policy)
    auth_token: Fresh[AuthToken] = Fresh(factories.auth_token, token_issuer)
    connections: Fresh[ConnectionTable] = Fresh(factories.connections, settings)
    lifecycle_record: Fresh[LifecycleRecord] = Fresh(factories.lifecycle_record, settings, lifecycle)
    next_mode = Shared(
        factories.next_mode, mode.provider, claims, metrics, reason="makes a mode at each call and keeps none"
    )
    new_manager: Fresh[UserManager] = Fresh(
        factories.new_manager,
        keys=keys,
        make_mode=mode.provider,
        make_auth_token=auth_token.provider,
        next_mode=next_mode,
        token_issuer=token_issuer,
        connections=connections,
        record=lifecycle_record,
        lifecycle=lifecycle,
        publisher=publisher,
        claims=claims,
        metrics=metrics,
    )
    manager: PerKey[UserManager] = PerKey(
        factories.manager, make=new_manager.provider, keys=keys, metrics=metrics, key=keys
    )

    # One connection's own.
    connection: Fresh[ClientConnection] = Fresh(
        ClientConnection,
        options=Shared(factories.connection_options, settings, reason="frozen"),
        services=services,
        managers=manager.provider,
        metrics=metrics,
    )

    # The proof's: for all that the gateway asks for a user or a client, the arguments of calls for two that nobody is.
    probes = providers.Callable(factories.probes)

    # The operators', and what acts in their place.
    control = Shared(
        factories.control,
        settings,
        policy,
        lifecycle,
        publisher,
        broker,
        manager.provider,
        reason="never reached from a manager",
    )
    emergency = Shared(
        factories.emergency,
        settings,
        clock,
        policy,
        control,
        lifecycle,
        backlog,
        metrics,
        reason="never reached from a manager; reads sizes and counts",
    )
