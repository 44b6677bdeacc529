"""The settings of a gateway: one tree, read once at start and immutable from then on."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.files import value_or_file
from config.sections import (
    AuthSettings,
    BrokerSettings,
    ChannelSettings,
    HistorySettings,
    IsolationSettings,
    LifecycleSettings,
    LimitSettings,
    LogSettings,
    ModeName,
    ModeRule,
    ModeSettings,
    PingSettings,
    ShutdownSettings,
)

ENV_PREFIX = "BULKHEAD_"


class Settings(BaseSettings):
    """Every setting of a gateway.

    `Settings(mode="isolated", auth={"hmac_secret": "..."})` takes what it is given and the defaults: neither the
    environment nor a profile's TOML file has a say, so a test means the same on every machine. Only files that it
    names (`*_file`) are read. `config.load_settings` brings all sources together. Raises pydantic.ValidationError.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        cli_implicit_flags=True,
        cli_exit_on_error=False,
    )

    profile: Literal["development", "production"] = Field("production", description="The TOML file in `config/`.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to listen on; 0 chooses a free one.")
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Processes of `bulkhead serve` that share the port; with `memory://` several share a Valkey."
    )
    worker_port: Annotated[int, Field(ge=1, le=65279)] | None = Field(
        None, description="First of the ports on which each of several workers also listens alone."
    )
    mode: ModeName = Field("unified", description="Mode of every user for whom nothing else decides.")
    mode_rules: tuple[ModeRule, ...] = Field((), description="Modes by verified claims; the first match decides.")
    api_keys_file: Path | None = Field(None, description="File with one API key per line.")
    api_keys: tuple[SecretStr, ...] = Field((), description="Keys of back ends (`X-API-Key`); several for rotation.")
    origins: tuple[str, ...] = Field((), description="Exact browser origins that may connect; `*` allows all.")
    same_origin: bool = Field(
        False, description="Also accept a browser whose `Origin` names the host and port of its `Host` header."
    )
    docs: bool = Field(False, description="Serve OpenAPI and its pages.")
    demo: bool = Field(False, description="Serve the chat page, its agent and its sign-in. Never in production.")

    auth: AuthSettings = AuthSettings()
    broker: BrokerSettings = BrokerSettings()
    history: HistorySettings = HistorySettings()
    limits: LimitSettings = LimitSettings()
    ping: PingSettings = PingSettings()
    channels: ChannelSettings = ChannelSettings()
    modes: ModeSettings = ModeSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    isolation: IsolationSettings = IsolationSettings()
    log: LogSettings = LogSettings()
    shutdown: ShutdownSettings = ShutdownSettings()

    _origins: tuple[tuple[str, str], ...] = ()

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the arguments as the only source; `load_settings` asks the others itself, to know who said what."""
        return (init_settings,)

    @field_validator("api_keys", mode="before")
    @classmethod
    def _read_api_keys(cls, value: Any, info: ValidationInfo) -> Any:
        text = value_or_file(value, info)
        if info.data.get("api_keys_file") is None:
            return text
        return tuple(line.strip() for line in text.splitlines() if line.strip())

    def with_origins(self, origins: dict[str, str]) -> Settings:
        """Give the same settings with the origin of each value: a dict from setting to the name of its source."""
        settings = self.model_copy()
        settings._origins = tuple(origins.items())
        return settings

    def origin(self, setting: str) -> str:
        """Say where the value of a setting such as `history.size` came from.

        `default`, `development.toml` or `production.toml`, the name of the user's own file, `.env`, `environment`,
        `command line`, `file <path>` for a secret read from a file, or `code` for an argument of `Settings` itself.
        """
        section, _, name = setting.rpartition(".")
        owner: BaseModel = attrgetter(section)(self) if section else self
        return dict(self._origins).get(setting, "code" if name in owner.model_fields_set else "default")
