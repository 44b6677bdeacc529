"""The tree itself: what code may rely on."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from pydantic import ValidationError

from config import Settings


def test_settings_made_in_code_ignore_environment_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_MODE", "emergency")
    monkeypatch.setenv("BULKHEAD_HISTORY__SIZE", "3")
    Path(".env").write_text("BULKHEAD_PORT=1\n")
    settings = Settings(auth={"hmac_secret": "secret"})
    assert (settings.mode, settings.history.size, settings.port) == ("unified", 1000, 8000)


def test_settings_and_their_sections_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.mode = "isolated"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.history.size = 3  # type: ignore[misc]


def test_settings_can_be_copied_as_containers_do() -> None:
    settings = Settings(api_keys=["key"], mode_rules=[{"claim": "tier", "equals": "hipaa", "mode": "isolated"}])
    assert copy.deepcopy(settings) == settings


def test_an_unknown_name_in_code_is_refused() -> None:
    with pytest.raises(ValidationError, match="histroy"):
        Settings(histroy={"size": 3})


def test_a_secret_shows_in_no_text_of_settings_or_errors() -> None:
    settings = Settings(auth={"hmac_secret": "hunter2"}, api_keys=["hunter2"])
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    with pytest.raises(ValidationError) as error:
        Settings(auth={"hmac_secret": {"oops": "hunter2"}}, api_keys="hunter2")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("name", ["hmac_secret", "public_key"])
def test_a_key_is_read_from_its_file_without_the_last_line_ending(name: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b" line one\nline two\r\n")
    value = getattr(Settings(auth={f"{name}_file": file}).auth, name)
    assert (value if isinstance(value, str) else value.get_secret_value()) == " line one\nline two"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read {}: No such file or directory"), (b"\n \n", "{} is empty"), (b"\xff", "{} is not UTF-8 text")],
)
@pytest.mark.parametrize("setting", ["auth.hmac_secret", "auth.public_key", "api_keys"])
def test_a_secret_file_that_cannot_be_used_is_named(
    setting: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    section, _, name = setting.rpartition(".")
    given = {f"{name}_file": file}
    with pytest.raises(ValidationError) as error:
        Settings(**({section: given} if section else given))
    (details,) = error.value.errors()
    assert ".".join(map(str, details["loc"])) == setting
    assert str(details["ctx"]["error"]) == message.format(file)


@pytest.mark.parametrize("setting", ["auth.hmac_secret", "auth.public_key", "api_keys"])
def test_a_secret_and_its_file_together_are_refused(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("other")
    section, _, name = setting.rpartition(".")
    given = {f"{name}_file": file, name: ["value"] if name == "api_keys" else "value"}
    with pytest.raises(ValidationError, match=f"is given, and so is {name}_file: give one of the two"):
        Settings(**({section: given} if section else given))
