"""What people are shown of the settings."""

from __future__ import annotations

import pytest

from config import Settings, load_settings
from config.paths import setting_paths
from config.report import MASK, describe, mask_url


def test_every_setting_has_a_row_with_its_value_and_origin() -> None:
    rows = list(describe(load_settings(["--history.size", "3", "--profile", "development"])))
    assert tuple(row.setting for row in rows) == setting_paths()
    assert ("history.size", 3, "command line") in rows
    assert ("history.ttl", 300.0, "default") in rows
    assert ("demo", True, "development.toml") in rows


def test_secrets_are_masked() -> None:
    settings = Settings(
        auth={"hmac_secret": "hunter2", "jwks_url": "https://me:hunter2@keys.example/set"},
        api_keys=["hunter2", "hunter2"],
        broker={"url": "redis://:hunter2@broker.example/1"},
    )
    values = {row.setting: row.value for row in describe(settings)}
    assert values["auth.hmac_secret"] == MASK
    assert values["api_keys"] == [MASK, MASK]
    assert values["auth.jwks_url"] == f"https://{MASK}@keys.example/set"
    assert values["broker.url"] == f"redis://{MASK}@broker.example/1"
    assert "hunter2" not in str(values)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://h?password=hunter2", f"redis://h?password={MASK}"),
        ("redis://h/1?db=2&password=hunter2", f"redis://h/1?db={MASK}&password={MASK}"),
        ("redis://:hunter2@h?password=hunter2", f"redis://{MASK}@h?password={MASK}"),
        ("redis://h?hunter2", f"redis://h?{MASK}"),
        ("unix:///run/x.sock?password=hunter2", f"unix:///run/x.sock?password={MASK}"),
        ("unix://:hunter2@/run/x.sock", f"unix://{MASK}@/run/x.sock"),
        ("redis://:hun/hunter2@h/1", f"redis://{MASK}@h/1"),
        ("redis://:hun@hunter2@h/1", f"redis://{MASK}@h/1"),
        ("redis://:hun#hunter2@h/1", f"redis://{MASK}@h/1"),
        ("redis://:hunter2?x@h/1", f"redis://{MASK}"),
        ("redis://h?password=hunter2@h", f"redis://{MASK}"),
        ("redis://:a@h?password=hunter2@h", f"redis://{MASK}@h?password={MASK}"),
        (
            "redis+sentinel://:hunter2@h1,h2/m?sentinel_password=hunter2",
            f"redis+sentinel://{MASK}@h1,h2/m?sentinel_password={MASK}",
        ),
        ("redis+cluster://user:hunter2@h1:1,h2:2", f"redis+cluster://{MASK}@h1:1,h2:2"),
    ],
)
def test_a_url_shows_no_password_wherever_it_stands(text: str, shown: str) -> None:
    assert mask_url(text) == shown


@pytest.mark.parametrize("text", ["memory://", "a@b", "https://keys.example/set", "unix:///run/x.sock", ""])
def test_text_without_credentials_is_shown_as_it_is(text: str) -> None:
    assert mask_url(text) == text


def test_what_a_key_set_is_asked_with_is_masked() -> None:
    settings = Settings(auth={"jwks_url": "https://keys.example/set?apikey=hunter2"})
    values = {row.setting: row.value for row in describe(settings)}
    assert values["auth.jwks_url"] == f"https://keys.example/set?apikey={MASK}"
