"""The parts of the pages that are made from the code: `make docs` writes them, and a test says when to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Any

from dependency_injector import providers

from app import create_app
from app.realtime.codes import DisconnectCode, ErrorCode, UnsubscribeCode
from config import Settings
from containers import GatewayContainer
from providers import Fresh, PerKey, Shared, prove
from tests.docs.pages import ROOT, markers, section
from tests.isolation.planted.created import CREATED
from tests.isolation.planted.grown import GROWN
from tests.isolation.planted.wired import WIRED
from tests.modes.table import TABLES, State

LEFT_OUT = frozenset({"settings", "clock", "metrics"})


def main() -> None:
    """Write every generated section of every page, and every generated file."""
    for name, make in FILES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
    for (page, name), make in SECTIONS.items():
        path = ROOT / page
        begin, end = markers(name)
        old = begin + section(path, name) + end
        path.write_text(path.read_text(encoding="utf-8").replace(old, begin + make() + end), encoding="utf-8")


def container(broker: str = "memory://") -> GatewayContainer:
    """A gateway's container as it comes, with settings that are nobody's."""
    made = GatewayContainer()
    settings = Settings(auth={"hmac_secret": "x" * 32}, docs=True, broker={"url": broker})
    made.settings.override(providers.Object(settings))
    return made


def named(provider: providers.Provider[Any], names: Mapping[providers.Provider[Any], str]) -> Iterator[str]:
    """The providers of the container that a provider is given, through those without a name of their own."""
    for related in provider.related:
        if related in names:
            yield names[related]
        else:
            yield from named(related, names)


def wiring() -> dict[str, tuple[providers.Provider[Any], list[str]]]:
    """Each provider of the container and the names of what it is given."""
    made = container()
    names = {provider: name for name, provider in made.providers.items()}
    return {name: (provider, list(dict.fromkeys(named(provider, names)))) for provider, name in names.items()}


def picture() -> str:
    """The container as a Mermaid flow chart."""
    parts = wiring()
    groups = {
        "shared": ('"Shared: reached from every user"', (Shared, providers.Dict)),
        "keyed": ('"PerKey: one for each user key"', (PerKey,)),
        "fresh": ('"Fresh: a new one for each holder"', (Fresh,)),
    }
    lines = ["flowchart LR"]
    for group, (title, kinds) in groups.items():
        lines += [f"    subgraph {group} [{title}]"]
        lines += [f"        {name}" for name, (part, _) in parts.items() if isinstance(part, kinds)]
        lines += ["    end"]
    for name, (_, given) in parts.items():
        lines += [f"    {other} --> {name}" for other in given if other not in LEFT_OUT]
    return "\n".join(["```mermaid", *lines, "```", ""])


def proof() -> str:
    """The wiring of the container as its proof shows it."""
    made = container()
    return f"```mermaid\n{prove(made, made.probes()).as_mermaid()}```\n"


def proof_as_dot() -> str:
    """The same for Graphviz."""
    made = container()
    return prove(made, made.probes()).as_dot()


def leaks() -> str:
    """The leaks that tests plant, and the nets that see each."""
    rows = [(kind, "before the start", leak.nets) for kind, leak in WIRED.items()]
    rows += [(kind, "with the second user", frozenset({made.net})) for kind, made in CREATED.items()]
    rows += [(kind, "among connected users", grown.nets) for kind, grown in GROWN.items()]
    return table(("planted", "when", "seen by"), [(kind, when, ", ".join(sorted(nets))) for kind, when, nets in rows])


def parts_table() -> str:
    """The container as a table."""
    rows = []
    for name, (part, given) in wiring().items():
        why = part.reason if isinstance(part, Shared) else ""
        rows.append((f"`{name}`", f"`{type(part).__name__}`", ", ".join(f"`{other}`" for other in given), why))
    return table(("part", "provider", "is given", "why everybody may reach it"), rows)


def errors() -> str:
    """Errors of the client protocol."""
    rows = [(str(error.code), error.message, "yes" if error.temporary else "", used(error)) for error in ErrorCode]
    return table(("code", "message", "temporary", "sent by this version"), rows)


def disconnects() -> str:
    """Disconnects of the client protocol."""
    rows = [
        (str(code.code), code.reason, "stops" if code.final else "reconnects", used(code)) for code in DisconnectCode
    ]
    return table(("code", "reason", "the SDK", "sent by this version"), rows)


def unsubscribes() -> str:
    """Unsubscribe pushes of the client protocol."""
    rows = [
        (str(code.code), code.reason, "subscribes again" if code.code >= 2500 else "stops", used(code))
        for code in UnsubscribeCode
    ]
    return table(("code", "reason", "the SDK", "sent by this version"), rows)


def used(code: Enum) -> str:
    """Whether the code of the gateway names it."""
    name = re.compile(rf"\b{type(code).__name__}\.{code.name}\b")
    return "yes" if any(name.search(path.read_text(encoding="utf-8")) for path in (ROOT / "app").rglob("*.py")) else ""


def endpoints() -> str:
    """The HTTP API, from its OpenAPI description; what the demo adds is left out."""
    api = create_app(container()).openapi()
    rows = [
        (f"`{method.upper()} {path.replace(':path', '')}`", operation["description"].split("\n")[0], keyed(operation))
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
    ]
    return table(("endpoint", "what it does", "asks for"), rows)


def keyed(operation: Mapping[str, Any]) -> str:
    """What a caller has to prove."""
    return "an API key" if operation.get("security") else ""


def metrics() -> str:
    """What `/metrics` tells; counters carry `_total` on the wire."""
    rows = [
        (
            f"`{metric.name}_total`" if metric.type == "counter" else f"`{metric.name}`",
            metric.type,
            metric.documentation,
        )
        for metric in container_metrics()
    ]
    return table(("metric", "type", "meaning"), rows)


def container_metrics() -> list[Any]:
    """The metrics of a gateway of which every part is built, and what it has besides with Redis or Valkey."""
    found: dict[str, Any] = {}
    for made in (container(), container("redis://localhost")):
        for part in made.providers.values():
            if isinstance(part, Shared):
                part()
        for metric in made.metrics().registry.collect():
            found.setdefault(metric.name, metric)
    return list(found.values())


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def states() -> str:
    """What publishers and clients are answered, by mode and whether there is a broker."""
    head = ("mode", "publish of a back end", "the same, of a critical type", "commands of clients")
    return table(head, [(state.label, state.ordinary, state.critical, state.commands) for state in State])


def transitions(part: str) -> str:
    """Transitions of modes."""
    head = ("from", "event", "to", "reason", "connected clients", "publishers", "what waited")
    rows = [
        (
            row.start.text,
            row.event.value,
            row.state.label,
            row.reason,
            row.told.value,
            row.state.publishers,
            row.waited,
        )
        for row in TABLES[part]
    ]
    return table(head, rows)


SECTIONS: Mapping[tuple[str, str], Callable[[], str]] = MappingProxyType(
    {
        ("docs/concepts.md", "picture"): picture,
        ("docs/concepts.md", "parts"): parts_table,
        ("docs/isolation.md", "proof"): proof,
        ("docs/isolation.md", "leaks"): leaks,
        ("docs/protocol.md", "errors"): errors,
        ("docs/protocol.md", "disconnects"): disconnects,
        ("docs/protocol.md", "unsubscribes"): unsubscribes,
        ("docs/http-api.md", "endpoints"): endpoints,
        ("docs/operations.md", "metrics"): metrics,
        ("docs/modes.md", "states"): states,
        **{("docs/modes.md", part): partial(transitions, part) for part in TABLES},
    }
)

FILES: Mapping[str, Callable[[], str]] = MappingProxyType({"docs/isolation.dot": proof_as_dot})

if __name__ == "__main__":
    main()
