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


@pytest.mark.parametrize("text", ["memory://", "a@b", "https://keys.example/set?at=a@b", ""])
def test_text_without_credentials_is_shown_as_it_is(text: str) -> None:
    assert mask_url(text) == text
