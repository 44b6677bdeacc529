"""What is wrong with settings whose values are each valid: contradictions, and what is unsafe in production."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from itertools import combinations
from operator import attrgetter
from types import MappingProxyType
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from config.paths import env_name
from config.problems import Problem
from config.settings import Settings
from config.sources import PROFILES

MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: a key of HS256 has at least the 256 bits of the hash.
MIN_API_KEY_LENGTH = 16
NEW_SECRET = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'

KEY_SOURCES = ("hmac_secret", "public_key", "jwks_file", "jwks_url")
DEFAULT_PORTS = MappingProxyType({"http": 80, "https": 443})

BROKER = r"memory://|(redis|valkey)s?(\+cluster|\+sentinel)?://.+|unix:///.+"

# The first may not be more than the second.
ORDER = (
    ("limits.event_bytes", "limits.queue_bytes", "an event would close every connection it is sent to"),
    ("limits.event_bytes", "limits.body_bytes", "such an event cannot be published over HTTP"),
    ("limits.event_bytes", "broker.max_bytes_per_user", "such an event cannot be kept"),
    ("broker.max_bytes_per_user", "broker.max_bytes", "one user cannot have more than all"),
    ("broker.idempotency_keys_per_user", "broker.idempotency_keys", "one user cannot have more than all"),
    ("modes.buffer_bytes_per_user", "modes.buffer_bytes", "one user cannot have more than all"),
    ("lifecycle.events_per_user", "lifecycle.events", "one user cannot have more than all"),
    ("shutdown.drain_seconds", "shutdown.grace_seconds", "the process ends before its connections are drained"),
)


def find_problems(settings: Settings) -> tuple[Problem, ...]:
    """Give everything that keeps these settings from being served; an empty tuple if nothing does.

    The same settings always have the same problems: nothing but the shipped `development.toml` is read, to know the
    secrets that are none.
    """
    checks: list[Callable[[Settings], Iterator[Problem]]] = [
        _check_key_source,
        _check_public_key,
        _check_api_keys,
        _check_mode_rules,
        _check_origins,
        _check_amounts,
        _check_ports,
        _check_features,
    ]
    if settings.profile == "production":
        checks += [_check_production_secrets, _check_production_keys, _check_production_features]
    return tuple(problem for check in checks for problem in check(settings))


def _problem(settings: Settings, setting: str, message: str, remedy: str) -> Problem:
    return Problem(setting, message, settings.origin(setting), remedy)


def _check_key_source(settings: Settings) -> Iterator[Problem]:
    auth = settings.auth
    given = [f"auth.{name}" for name in KEY_SOURCES if getattr(auth, name) is not None]
    wanted = ["auth.hmac_secret"] if auth.algorithm == "HS256" else [f"auth.{name}" for name in KEY_SOURCES[1:]]
    if not given and not auth.anonymous:
        remedy = f"Set {' or '.join(map(env_name, wanted))}, or name a file in {env_name(wanted[0])}_FILE."
        yield _problem(settings, wanted[0], "no key to verify tokens with", remedy)
    if len(given) > 1:
        yield _problem(settings, given[0], f"more than one key: {', '.join(given)}", "Keep one of them.")
    for setting in given:
        if setting not in wanted:
            remedy = f"For {auth.algorithm} set {' or '.join(wanted)}, or change auth.algorithm."
            yield _problem(settings, setting, f"cannot verify tokens signed with {auth.algorithm}", remedy)


def _check_public_key(settings: Settings) -> Iterator[Problem]:
    pem, algorithm = settings.auth.public_key, settings.auth.algorithm
    if pem is None:
        return
    if "PRIVATE KEY" in pem:
        remedy = "Give its public half; the private key stays where tokens are issued."
        yield _problem(settings, "auth.public_key", "is a private key", remedy)
        return
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        remedy = "Give the text from -----BEGIN PUBLIC KEY----- to its end."
        yield _problem(settings, "auth.public_key", "is not a PEM public key", remedy)
        return
    fits = {
        "RS256": isinstance(key, RSAPublicKey),
        "ES256": isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1),
        "EdDSA": isinstance(key, Ed25519PublicKey),
    }
    if not fits.get(algorithm, True):
        remedy = "RS256 takes an RSA key, ES256 one on the curve P-256, EdDSA an Ed25519 key."
        yield _problem(settings, "auth.public_key", f"is not a key of {algorithm}", remedy)


def _check_api_keys(settings: Settings) -> Iterator[Problem]:
    for number, key in enumerate(settings.api_keys, 1):
        text = key.get_secret_value()
        if not text or not all("!" <= character <= "~" for character in text):
            remedy = "Use visible ASCII characters without spaces, as an HTTP header carries them."
            yield _problem(settings, "api_keys", f"key {number} can never be sent in X-API-Key", remedy)


def _check_mode_rules(settings: Settings) -> Iterator[Problem]:
    for (first, rule), (second, later) in combinations(enumerate(settings.mode_rules, 1), 2):
        same_value = type(rule.equals) is type(later.equals) and rule.equals == later.equals
        if rule.claim == later.claim and same_value:
            message = f"rule {second} never decides: rule {first} matches the same users"
            yield _problem(settings, "mode_rules", message, f"Remove one of the rules on the claim {rule.claim}.")


def _check_origins(settings: Settings) -> Iterator[Problem]:
    for origin in settings.origins:
        exact = _exact_origin(origin)
        if origin == "*":
            continue  # production has a word to say about it
        if "*" in origin:
            remedy = "Origins are compared letter for letter: list each host by itself."
            yield _problem(settings, "origins", f"{origin} allows nobody, as * stands for nothing in it", remedy)
        elif origin != exact:
            remedy = f"Write {exact}." if exact else "Write scheme://host or scheme://host:port."
            yield _problem(settings, "origins", f"{origin} is not what a browser sends", remedy)


def _exact_origin(text: str) -> str | None:
    """The origin as a browser writes it (RFC 6454, section 6.2): no path, lower case, no default port."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, DEFAULT_PORTS.get(parts.scheme)) else "")


def _check_amounts(settings: Settings) -> Iterator[Problem]:
    for small, large, consequence in ORDER:
        least, most = attrgetter(small)(settings), attrgetter(large)(settings)
        if least > most:
            message = f"{least} is more than {large}, {most}: {consequence}"
            yield _problem(settings, small, message, f"Lower {small} or raise {large}.")
    if settings.ping.timeout >= settings.ping.interval:
        message = "must be less than ping.interval: a ping is answered before the next one is sent"
        yield _problem(settings, "ping.timeout", message, "Lower ping.timeout or raise ping.interval.")


def _check_ports(settings: Settings) -> Iterator[Problem]:
    first = settings.worker_port
    if first is not None and settings.workers > 1 and first <= settings.port < first + settings.workers:
        message = f"workers listen alone on {first} to {first + settings.workers - 1}, and port is {settings.port}"
        yield _problem(settings, "worker_port", message, "Move worker_port or port.")


def _check_features(settings: Settings) -> Iterator[Problem]:
    if re.fullmatch(BROKER, settings.broker.url) is None:
        remedy = "Use memory://, or redis://, valkey:// and so on: see broker.url in docs/configuration.md."
        yield _problem(settings, "broker.url", "no broker of this kind", remedy)
    if settings.demo and settings.auth.hmac_secret is None:
        message = "the demo signs its users in with auth.hmac_secret, and there is none"
        yield _problem(settings, "demo", message, "Set auth.hmac_secret, or switch demo off.")


def _check_production_secrets(settings: Settings) -> Iterator[Problem]:
    known = tomllib.loads((PROFILES / "development.toml").read_text(encoding="utf-8"))
    new_secret = f"Make a new one: {NEW_SECRET}"
    if settings.auth.hmac_secret is not None:
        secret = settings.auth.hmac_secret.get_secret_value()
        if secret == known["auth"]["hmac_secret"]:
            yield _problem(settings, "auth.hmac_secret", "is the development secret, which everybody knows", new_secret)
        if len(secret.encode()) < MIN_SECRET_BYTES:
            message = f"is shorter than {MIN_SECRET_BYTES} bytes"
            yield _problem(settings, "auth.hmac_secret", message, new_secret)
    if not settings.api_keys:
        remedy = (
            f"Set {env_name('api_keys')} to a JSON list, or name a file in {env_name('api_keys_file')}. {new_secret}"
        )
        yield _problem(settings, "api_keys", "no API key, so no back end could publish", remedy)
    for number, key in enumerate(settings.api_keys, 1):
        if key.get_secret_value() in known["api_keys"]:
            message = f"key {number} is the development key, which everybody knows"
            yield _problem(settings, "api_keys", message, new_secret)
        if len(key) < MIN_API_KEY_LENGTH:
            message = f"key {number} is shorter than {MIN_API_KEY_LENGTH} characters"
            yield _problem(settings, "api_keys", message, new_secret)


def _check_production_keys(settings: Settings) -> Iterator[Problem]:
    url = settings.auth.jwks_url
    if url is not None and url.scheme == "http" and not _is_loopback(url.host or ""):
        message = "is fetched without TLS: who is on the way could put in keys, and sign in as anybody"
        yield _problem(settings, "auth.jwks_url", message, "Use https://, or save the set in auth.jwks_file.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _check_production_features(settings: Settings) -> Iterator[Problem]:
    if "*" in settings.origins:
        remedy = "List the origins of your pages, such as https://chat.example.com."
        yield _problem(settings, "origins", "* lets every web page connect as its visitors", remedy)
    if settings.same_origin:
        message = "believes the Host header, which a rebound name can forge"
        yield _problem(settings, "same_origin", message, "Switch it off and list the origins of your pages in origins.")
    if settings.docs:
        yield _problem(settings, "docs", "the API pages are open to everybody", "Switch docs off.")
    if settings.demo:
        yield _problem(settings, "demo", "the demo signs everybody in as anybody", "Switch demo off.")
