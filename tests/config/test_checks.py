"""What settings are refused although each value is valid, and with which words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from config import Settings, find_problems, load_settings

SECRET = "q" * 32
API_KEY = "k" * 16
NEW_SECRET = 'Make a new one: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def settings(profile: str = "production", **changes: Any) -> Settings:
    """Settings without a problem, changed."""
    auth = {"hmac_secret": SECRET} | changes.pop("auth", {})
    return Settings(**{"profile": profile, "api_keys": [API_KEY], "auth": auth} | changes)


def problems(given: Settings) -> list[tuple[str, str, str]]:
    return [(problem.setting, problem.message, problem.remedy) for problem in find_problems(given)]


def public_pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKey]:
    return {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


@pytest.mark.parametrize("profile", ["development", "production"])
def test_good_settings_have_no_problem(profile: str) -> None:
    assert problems(settings(profile, origins=["https://chat.example.com", "http://[::1]:8000", "app://page"])) == []


def test_the_development_profile_is_served_as_it_is() -> None:
    assert problems(load_settings(["--profile", "development"])) == []


def test_the_production_profile_lacks_a_key_for_tokens_and_an_api_key() -> None:
    assert problems(load_settings()) == [
        (
            "auth.hmac_secret",
            "no key to verify tokens with",
            "Set BULKHEAD_AUTH__HMAC_SECRET, or name a file in BULKHEAD_AUTH__HMAC_SECRET_FILE.",
        ),
        (
            "api_keys",
            "no API key, so no back end could publish",
            f"Set BULKHEAD_API_KEYS to a JSON list, or name a file in BULKHEAD_API_KEYS_FILE. {NEW_SECRET}",
        ),
    ]


PRODUCTION: Mapping[str, tuple[Mapping[str, Any], tuple[str, str, str]]] = {
    "the development secret": (
        {"auth": {"hmac_secret": "development-hmac-secret-not-for-production"}},
        ("auth.hmac_secret", "is the development secret, which everybody knows", NEW_SECRET),
    ),
    "a short secret": (
        {"auth": {"hmac_secret": "q" * 31}},
        ("auth.hmac_secret", "is shorter than 32 bytes", NEW_SECRET),
    ),
    "no API key": (
        {"api_keys": []},
        (
            "api_keys",
            "no API key, so no back end could publish",
            f"Set BULKHEAD_API_KEYS to a JSON list, or name a file in BULKHEAD_API_KEYS_FILE. {NEW_SECRET}",
        ),
    ),
    "the development key": (
        {"api_keys": [API_KEY, "development-api-key-not-for-production"]},
        ("api_keys", "key 2 is the development key, which everybody knows", NEW_SECRET),
    ),
    "a short key": (
        {"api_keys": ["k" * 15]},
        ("api_keys", "key 1 is shorter than 16 characters", NEW_SECRET),
    ),
    "keys fetched without TLS": (
        {"auth": {"hmac_secret": None, "algorithm": "ES256", "jwks_url": "http://me:secret@keys.example/set"}},
        (
            "auth.jwks_url",
            "is fetched without TLS: who is on the way could put in keys, and sign in as anybody",
            "Use https://, or save the set in auth.jwks_file.",
        ),
    ),
    "any origin": (
        {"origins": ["*"]},
        (
            "origins",
            "* lets every web page connect as its visitors",
            "List the origins of your pages, such as https://chat.example.com.",
        ),
    ),
    "the same origin": (
        {"same_origin": True},
        (
            "same_origin",
            "believes the Host header, which a rebound name can forge",
            "Switch it off and list the origins of your pages in origins.",
        ),
    ),
    "docs": ({"docs": True}, ("docs", "the API pages are open to everybody", "Switch docs off.")),
    "demo": ({"demo": True}, ("demo", "the demo signs everybody in as anybody", "Switch demo off.")),
}


@pytest.mark.parametrize("what", PRODUCTION)
def test_production_refuses(what: str) -> None:
    changes, problem = PRODUCTION[what]
    assert problems(settings("production", **changes)) == [problem]


@pytest.mark.parametrize("what", PRODUCTION)
def test_development_accepts(what: str) -> None:
    changes, _ = PRODUCTION[what]
    assert problems(settings("development", **changes)) == []


def test_a_secret_of_32_bytes_may_have_fewer_characters() -> None:
    assert problems(settings(auth={"hmac_secret": "ü" * 16})) == []


@pytest.mark.parametrize("profile", ["development", "production"])
def test_anonymous_access_needs_no_key(profile: str) -> None:
    assert problems(settings(profile, auth={"hmac_secret": None, "anonymous": True})) == []


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_an_asymmetric_algorithm_needs_a_public_key(algorithm: str) -> None:
    (problem,) = problems(settings(auth={"hmac_secret": None, "algorithm": algorithm}))
    assert problem == (
        "auth.public_key",
        "no key to verify tokens with",
        "Set BULKHEAD_AUTH__PUBLIC_KEY or BULKHEAD_AUTH__JWKS_FILE or BULKHEAD_AUTH__JWKS_URL, "
        "or name a file in BULKHEAD_AUTH__PUBLIC_KEY_FILE.",
    )


@pytest.fixture
def key_set(tmp_path: Path, keys: dict[str, PrivateKey]) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk(keys["EdDSA"].public_key())]}))
    return file


def jwk(key: Any) -> dict[str, Any]:
    """A key as an entry of a key set."""
    algorithms = jwt.algorithms.get_default_algorithms()
    name = "RS256" if "RSA" in type(key).__name__ else "EdDSA" if "25519" in type(key).__name__ else "ES256"
    entry: dict[str, Any] = algorithms[name].to_jwk(key, as_dict=True)
    return {**entry, "kid": name}


@pytest.mark.parametrize("profile", ["development", "production"])
@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA", "secret"])
def test_a_key_set_with_a_key_that_signs_tokens_is_refused(
    profile: str, kind: str, keys: dict[str, PrivateKey], tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    signing = {"kty": "oct", "k": "c2VjcmV0", "kid": "one"} if kind == "secret" else jwk(keys[kind])
    file.write_text(json.dumps({"keys": [jwk(keys["EdDSA"].public_key()), signing]}))
    with pytest.raises(ValueError, match="holds a private or secret key") as error:
        settings(profile, auth={"hmac_secret": None, "algorithm": "EdDSA", "jwks_file": file})
    assert signing.get("d", "c2VjcmV0") not in str(error.value)


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "127.8.9.1:81", "[::1]:80"])
def test_keys_may_come_from_the_same_machine_without_tls(host: str) -> None:
    auth = {"hmac_secret": None, "algorithm": "ES256", "jwks_url": f"http://{host}/set"}
    assert problems(settings(auth=auth)) == []


@pytest.mark.parametrize("host", ["localhost.example", "127.0.0.1.example", "10.0.0.1", "[2001:db8::1]"])
def test_what_only_looks_like_the_same_machine_needs_tls(host: str) -> None:
    auth = {"hmac_secret": None, "algorithm": "ES256", "jwks_url": f"http://{host}/set"}
    assert [setting for setting, _, _ in problems(settings(auth=auth))] == ["auth.jwks_url"]


@pytest.mark.parametrize("name", ["jwks_file", "jwks_url"])
def test_a_key_set_serves_every_asymmetric_algorithm(name: str, key_set: Path) -> None:
    source = {name: key_set if name == "jwks_file" else "https://keys.example/set"}
    assert problems(settings(auth={"hmac_secret": None, "algorithm": "ES256", **source})) == []


def test_a_secret_cannot_verify_an_asymmetric_algorithm() -> None:
    assert problems(settings(auth={"algorithm": "EdDSA"})) == [
        (
            "auth.hmac_secret",
            "cannot verify tokens signed with EdDSA",
            "For EdDSA set auth.public_key or auth.jwks_file or auth.jwks_url, or change auth.algorithm.",
        )
    ]


def test_more_than_one_key_is_refused(key_set: Path) -> None:
    first, second = problems(settings(auth={"jwks_file": key_set}))
    assert first == ("auth.hmac_secret", "more than one key: auth.hmac_secret, auth.jwks_file", "Keep one of them.")
    assert second[:2] == ("auth.jwks_file", "cannot verify tokens signed with HS256")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("kind", ["RS256", "ES256", "P-384", "EdDSA"])
def test_a_public_key_must_be_of_its_algorithm(algorithm: str, kind: str, keys: dict[str, PrivateKey]) -> None:
    given = settings(auth={"hmac_secret": None, "algorithm": algorithm, "public_key": public_pem(keys[kind])})
    assert [message for _, message, _ in problems(given)] == (
        [] if kind == algorithm else [f"is not a key of {algorithm}"]
    )


def test_a_private_key_in_the_place_of_the_public_one_is_refused(keys: dict[str, PrivateKey]) -> None:
    pem = keys["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (problem,) = problems(settings(auth={"hmac_secret": None, "algorithm": "ES256", "public_key": pem}))
    assert problem[:2] == ("auth.public_key", "is a private key")


def test_text_that_is_no_key_is_refused() -> None:
    (problem,) = problems(settings(auth={"hmac_secret": None, "algorithm": "ES256", "public_key": "hunter2"}))
    assert problem[:2] == ("auth.public_key", "is not a PEM public key")


@pytest.mark.parametrize("key", ["", "with a space, and long enough", "not-ascii-ü-and-long-enough", "k" * 16 + "\t"])
def test_an_api_key_that_no_header_can_carry_is_refused(key: str) -> None:
    first = problems(settings("development", api_keys=[API_KEY, key]))[0]
    assert first[:2] == ("api_keys", "key 2 can never be sent in X-API-Key")


def test_a_rule_that_never_decides_is_refused() -> None:
    rules = [
        {"claim": "tier", "equals": "hipaa", "mode": "isolated"},
        {"claim": "tier", "equals": "hipaa", "mode": "unified"},
        {"claim": "tier", "equals": 1, "mode": "isolated"},
        {"claim": "tier", "equals": True, "mode": "isolated"},
        {"claim": "plan", "equals": "hipaa", "mode": "isolated"},
    ]
    assert problems(settings(mode_rules=rules)) == [
        (
            "mode_rules",
            "rule 2 never decides: rule 1 matches the same users",
            "Remove one of the rules on the claim tier.",
        )
    ]


@pytest.mark.parametrize(
    ("origin", "remedy"),
    [
        ("https://Chat.example.com", "Write https://chat.example.com."),
        ("https://chat.example.com/", "Write https://chat.example.com."),
        ("https://chat.example.com:443", "Write https://chat.example.com."),
        ("http://chat.example.com:80/page", "Write http://chat.example.com."),
        ("http://[::1]/", "Write http://[::1]."),
        ("chat.example.com", "Write scheme://host or scheme://host:port."),
        ("https://chat.example.com:port", "Write scheme://host or scheme://host:port."),
        ("http://[", "Write scheme://host or scheme://host:port."),
        ("null", "Write scheme://host or scheme://host:port."),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str, remedy: str) -> None:
    assert problems(settings(origins=[origin])) == [("origins", f"{origin} is not what a browser sends", remedy)]


@pytest.mark.parametrize("profile", ["development", "production"])
@pytest.mark.parametrize("origin", ["https://*.example.com", "https://*", "http://localhost:*", "*.example.com", "**"])
def test_an_origin_with_a_wildcard_in_it_is_refused_as_it_would_match_nothing(profile: str, origin: str) -> None:
    assert problems(settings(profile, origins=["https://chat.example.com", origin])) == [
        (
            "origins",
            f"{origin} allows nobody, as * stands for nothing in it",
            "Origins are compared letter for letter: list each host by itself.",
        )
    ]


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("limits.event_bytes", "limits.queue_bytes"),
        ("limits.event_bytes", "limits.body_bytes"),
        ("limits.event_bytes", "broker.max_bytes_per_user"),
        ("broker.max_bytes_per_user", "broker.max_bytes"),
        ("broker.idempotency_keys_per_user", "broker.idempotency_keys"),
        ("modes.buffer_bytes_per_user", "modes.buffer_bytes"),
        ("lifecycle.events_per_user", "lifecycle.events"),
        ("shutdown.drain_seconds", "shutdown.grace_seconds"),
        ("ping.timeout", "ping.interval"),
    ],
)
def test_an_amount_larger_than_what_it_is_part_of_is_refused(small: str, large: str) -> None:
    changes: dict[str, Any] = {}
    for path, value in ((small, 2), (large, 1)):
        section, name = path.split(".")
        changes.setdefault(section, {})[name] = value
    found = {setting: remedy for setting, _, remedy in problems(settings(**changes))}
    assert found[small] == f"Lower {small} or raise {large}."


def test_a_broker_that_does_not_exist_is_refused() -> None:
    assert problems(settings(broker={"url": "kafka://"})) == [
        (
            "broker.url",
            "no broker of this kind",
            "Use memory://, or redis://, valkey:// and so on: see broker.url in docs/configuration.md.",
        )
    ]


def test_the_demo_without_a_secret_is_refused() -> None:
    given = settings("development", demo=True, auth={"hmac_secret": None, "anonymous": True})
    assert problems(given) == [
        (
            "demo",
            "the demo signs its users in with auth.hmac_secret, and there is none",
            "Set auth.hmac_secret, or switch demo off.",
        )
    ]


def test_a_problem_names_the_source_of_the_value_and_never_the_secret() -> None:
    (problem,) = find_problems(load_settings(["--auth.hmac_secret", "hunter2", "--api_keys", API_KEY]))
    assert str(problem) == (f"auth.hmac_secret: is shorter than 32 bytes (from command line)\n    {NEW_SECRET}")


@pytest.mark.parametrize(("port", "workers", "refused"), [(8000, 4, True), (8003, 4, True), (8003, 3, False)])
def test_a_port_that_is_one_of_the_workers_own_is_refused(port: int, workers: int, refused: bool) -> None:
    found = problems(settings(port=port, worker_port=8000, workers=workers))
    message = f"workers listen alone on 8000 to 8003, and port is {port}"
    assert found == ([("worker_port", message, "Move worker_port or port.")] if refused else [])


def test_one_worker_alone_has_no_port_of_its_own() -> None:
    assert problems(settings(port=8000, worker_port=8000, workers=1)) == []
