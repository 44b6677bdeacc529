"""The program `bulkhead`: serve, token, settings, check, audit."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from app.realtime.identity import IdentityError, UserContext
from app.tokens import TokenError, issue_token
from config import ArgumentError, ConfigurationError, Problem, Settings, load_settings
from config.paths import env_name
from config.report import describe
from providers import Proof, ProofError

PROBLEMS, USAGE = 1, 2
UNITS = MappingProxyType({"s": "seconds", "m": "minutes", "h": "hours", "d": "days"})


class Format(Enum):
    """How a proof is written."""

    TABLE = "table"
    JSON = "json"
    DOT = "dot"
    MERMAID = "mermaid"


def main() -> None:
    """Run the command line of this process."""
    program()()


def program() -> typer.Typer:
    """Build the program. It exits with 0, with 1 for problems, and with 2 if it cannot understand its arguments."""
    helped = {"help_option_names": ["-h", "--help"]}
    every_setting = helped | {"allow_extra_args": True, "ignore_unknown_options": True}
    commands = typer.Typer(
        name="bulkhead",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,  # They can show local variables, and with them secrets.
        context_settings=helped,
    )
    commands.callback()(bulkhead)
    commands.command("serve", context_settings=every_setting)(serve_gateway)
    commands.command("token", context_settings=helped)(print_token)
    commands.command("settings", context_settings=every_setting)(show_settings)
    commands.command("check", context_settings=every_setting)(check_gateway)
    commands.command("audit", context_settings=every_setting)(audit_managers)
    return commands


def show_version(wanted: bool) -> None:
    """Print the version and leave, if that is wanted."""
    if wanted:
        typer.echo(f"bulkhead {version('bulkhead-gateway')}")
        raise typer.Exit


def bulkhead(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Show the version.")
    ] = False,
) -> None:
    """A real-time gateway in which every user has a WebSocket manager of their own.

    serve, settings, check and audit take every setting as an option: --profile development, --port 9000,
    --history.size 10, --no-docs. `bulkhead settings` lists them.
    """


ContainerName = Annotated[
    str | None,
    typer.Option(
        "--container", metavar="MODULE:NAME", help="A GatewayContainer of your own, such as shop.wiring:Shop."
    ),
]


def serve_gateway(context: typer.Context, container: ContainerName = None) -> None:
    """Serve, unless `bulkhead check` would find a problem. Takes every setting as an option."""
    from app import create_app
    from app.checks import build_container, checked_settings, find_container, prove_wiring
    from app.listening import ListenError
    from app.server import StartError, serve
    from app.workers import serve_workers

    with reported_problems():
        make = find_container(container)
        settings = checked_settings(context.args, make)
        prove_wiring(settings, make)
        try:
            if settings.workers > 1:
                serve_workers(settings, container)
            else:
                serve(create_app(build_container(settings, make)))
        except ListenError as error:
            raise ConfigurationError([not_listening(settings, error.port, error)]) from error
        except StartError as error:
            raise ConfigurationError([Problem("serve", str(error))]) from error


def not_listening(settings: Settings, port: int, error: OSError) -> Problem:
    """Say which setting keeps a port from being listened on."""
    if error.errno not in (errno.EADDRINUSE, errno.EACCES):
        remedy = "Name an address of this machine; 0.0.0.0 stands for all of them."
        return Problem("host", str(error.strerror), remedy=remedy)
    setting = "port" if settings.worker_port is None or port == settings.port else "worker_port"
    remedy = f"Choose another one: --{setting} 9000, or {env_name(setting)}=9000."
    return Problem(setting, str(error.strerror), remedy=remedy)


def print_token(
    user: Annotated[str, typer.Argument(help="User id, the claim `sub`.")],
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long it is valid: 30s, 15m, 1h, 7d.")] = "1h",
    session: Annotated[str | None, typer.Option(help="Session id; a random one if not given.")] = None,
    claim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A further claim; VALUE is JSON, or text.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="The profile whose secret signs.")] = None,
) -> None:
    """Print a token (JWT) for a user, signed with auth.hmac_secret."""
    seconds = parse_duration(ttl).total_seconds()
    claims = dict(map(parse_claim, claim or ()))
    with reported_problems():
        settings = load_settings(() if profile is None else ("--profile", profile))
        UserContext(user_id=user, session_id=session)
        typer.echo(issue_token(settings.auth, user, seconds=seconds, session_id=session, claims=claims))


def show_settings(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show every setting, its value and where that came from; secrets are masked. Takes every setting as an option."""
    with reported_problems():
        rows = list(describe(load_settings(context.args)))
    if as_json:
        typer.echo(json.dumps({row.setting: {"value": row.value, "origin": row.origin} for row in rows}, indent=2))
        return
    table = [("setting", "value", "origin"), *((row.setting, as_text(row.value), row.origin) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in (0, 1)]
    for setting, value, origin in table:
        typer.echo(f"{setting:{widths[0]}}  {value:{widths[1]}}  {origin}".rstrip())


def check_gateway(
    context: typer.Context,
    container: ContainerName = None,
    format: Annotated[Format, typer.Option(help="How to write the proof.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write the proof.")] = None,
) -> None:
    """Say what is wrong with the configuration, and prove that the container keeps users apart.

    Takes every setting as an option. Exits with 1 if something is wrong or not proved; the proof is written all the
    same.
    """
    from app.checks import checked_settings, find_container, prove_wiring

    with reported_problems():
        make = find_container(container)
        settings = checked_settings(context.args, make)
        if output is not None or format is Format.TABLE:
            typer.echo(f"ok: {summary(settings)}")
        try:
            proof = prove_wiring(settings, make)
        except ProofError as error:
            write(error.proof, format, output)
            raise
        write(proof, format, output)


def write(proof: Proof, format: Format, output: Path | None) -> None:
    """Write a proof to a file, or else to standard output."""
    text = {
        Format.TABLE: proof.as_table,
        Format.JSON: proof.as_json,
        Format.DOT: proof.as_dot,
        Format.MERMAID: proof.as_mermaid,
    }[format]().rstrip("\n")
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError([Problem("--output", f"cannot write {output}: {error.strerror}")]) from error


def summary(settings: Settings) -> str:
    """Say in a line what would be served."""
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    keys = f"{len(settings.api_keys)} API key{'' if len(settings.api_keys) == 1 else 's'}"
    return (
        f"{settings.profile} profile on {address}:{settings.port}, {settings.mode} mode, "
        f"{settings.auth.algorithm} tokens, {keys}"
    )


def audit_managers(
    context: typer.Context,
    url: Annotated[str, typer.Option(help="Address of the gateway; default: the configured one.")] = "",
    user: Annotated[list[str] | None, typer.Option(help="Compare these users only; give it for each.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Have a gateway that runs audit its managers, asked with the first of `api_keys`.

    Takes every setting as an option. Exits with 1 if users share something.
    """
    from app.remote import request_audit

    with reported_problems():
        report = request_audit(url, load_settings(context.args), user or ())
    typer.echo(json.dumps(report, indent=2) if as_json else as_lines(report))
    if not report["isolated"]:
        raise typer.Exit(PROBLEMS)


def as_lines(report: Mapping[str, Any]) -> str:
    """Give the report of an audit as text."""
    verdict = "isolated" if report["isolated"] else f"NOT ISOLATED, {len(report['shared'])} shared"
    lines = [f"{verdict}: {report['managers']} managers, {report['objects']} objects, {report['seconds']:.3f} s"]
    for title in ("shared", "weak"):
        for found in report[title]:
            lines.append(f"{title}: {found['type']}, reached by {found['managers']} managers")
            lines += [f"    {place['key']}: {place['path']}" for place in found["places"]]
    if report["unread"]:
        lines.append(f"not read: {', '.join(report['unread'])}")
    if report["truncated"]:
        lines.append("there is more than what is listed")
    return "\n".join(lines)


@contextmanager
def reported_problems() -> Iterator[None]:
    """Turn expected errors into text on standard error and an exit status."""
    try:
        yield
    except (ConfigurationError, TokenError, IdentityError, ProofError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE if isinstance(error, ArgumentError) else PROBLEMS) from error


def parse_duration(text: str) -> timedelta:
    """Read a time such as `15m`."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if match is None:
        raise typer.BadParameter("write a number and its unit: 30s, 15m, 1h or 7d", param_hint="--ttl")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def parse_claim(text: str) -> tuple[str, Any]:
    """Read `name=value`; the value is JSON where it can be, otherwise text."""
    name, found, value = text.partition("=")
    if not name or not found:
        raise typer.BadParameter("write NAME=VALUE, such as tier=hipaa", param_hint="--claim")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def as_text(value: Any) -> str:
    """Write a value as it would be given: text as it is, the rest in JSON."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
