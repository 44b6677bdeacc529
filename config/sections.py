"""The sections of the settings, each a part of the tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, SecretStr, field_validator

from config.files import key_set_file, value_or_file

ModeName = Literal["unified", "isolated", "degraded", "emergency"]
Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of the tree. Frozen: settings are reachable from every user, so nobody may change them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class AuthSettings(Section):
    """How users prove who they are (JWT, RFC 7519)."""

    algorithm: Algorithm = Field("HS256", description="The one signature algorithm accepted; a token cannot choose.")
    hmac_secret_file: Path | None = Field(None, description="File that holds `hmac_secret`.")
    hmac_secret: SecretStr | None = Field(None, description="Shared secret of HS256, at least 32 bytes.")
    public_key_file: Path | None = Field(None, description="File that holds `public_key`.")
    public_key: str | None = Field(None, description="PEM public key of RS256, ES256 or EdDSA.")
    jwks_file: Path | None = Field(None, description="File with a JSON Web Key Set (RFC 7517).")
    jwks_url: AnyHttpUrl | None = Field(None, description="Address of a JSON Web Key Set, fetched and cached.")
    jwks_ttl: PositiveSeconds = Field(300, description="Seconds for which a fetched key set is used.")
    audience: tuple[str, ...] = Field((), description="Accepted `aud` values; none: `aud` is not required.")
    issuer: str | None = Field(None, description="Required `iss` value; none: `iss` is not required.")
    leeway: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = Field(
        0, description="Seconds of clock skew allowed."
    )
    session_claim: str = Field("sid", min_length=1, description="Claim that carries the session id.")
    anonymous: bool = Field(False, description="Accept connections without a token, each as an identity of its own.")

    _read_files = field_validator("hmac_secret", "public_key", mode="before")(value_or_file)
    _read_key_set = field_validator("jwks_file")(key_set_file)


class ModeRule(Section):
    """Users whose verified claim has this value get this mode; the first rule that matches decides."""

    claim: str = Field(min_length=1, description="Name of the claim.")
    equals: str | int | bool = Field(description="Value the claim must have, or contain if it is a list.")
    mode: ModeName = Field(description="Mode of the users that match.")


class BrokerSettings(Section):
    """Where streams live."""

    url: str = Field(
        "memory://",
        description=(
            "`memory://`: streams live in this process and end with it. Redis or Valkey, 7 and later: `redis://host`, "
            "`rediss://host` (TLS), `valkey://`, `valkeys://`, `unix:///path`, `redis+cluster://host:port,host:port`, "
            "`redis+sentinel://host:port,host:port/master`."
        ),
    )
    prefix: str = Field(
        "bulkhead",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Begin of all keys in Redis or Valkey: gateways with the same one are nodes of one gateway.",
    )
    timeout: PositiveSeconds = Field(2, description="Seconds without an answer after which Redis or Valkey is lost.")
    check_interval: PositiveSeconds = Field(1, description="Seconds between checks that it answers and delivers.")
    presence_ttl: PositiveSeconds = Field(
        60, description="Seconds after which the clients of a lost node are present no more."
    )
    pending: PositiveInt = Field(50_000, description="Commands that may wait for Redis or Valkey; one more: 503.")
    max_bytes: PositiveInt = Field(
        256 * 1024 * 1024,
        description="Memory of all streams; beyond it the one published to longest ago loses its publications first.",
    )
    max_bytes_per_user: PositiveInt = Field(8 * 1024 * 1024, description="Memory of what one user key's streams keep.")
    max_streams_per_user: PositiveInt = Field(1024, description="Streams (channels) of one user key.")
    idempotency_ttl: PositiveSeconds = Field(300, description="Seconds for which an idempotency key is remembered.")
    idempotency_keys_per_user: PositiveInt = Field(1000, description="Idempotency keys remembered for one user key.")
    idempotency_keys: PositiveInt = Field(
        200_000, description="Idempotency keys remembered for all with `memory://`; one more pushes out the oldest."
    )


class HistorySettings(Section):
    """What a stream keeps for recovery."""

    size: Annotated[int, Field(ge=0)] = Field(1000, description="Publications kept in a stream; 0 keeps none.")
    ttl: PositiveSeconds = Field(300, description="Seconds after its last publication for which a stream is kept.")


class LimitSettings(Section):
    """What one user, or one connection, may use."""

    connections_per_user: PositiveInt = Field(32, description="Connections of one manager; one more is closed, 3504.")
    channels_per_connection: PositiveInt = Field(128, description="Subscriptions of one connection.")
    message_bytes: PositiveInt = Field(65536, description="Bytes of one message from a client; a longer one: 1009.")
    event_bytes: PositiveInt = Field(65536, description="Bytes of the data of one event.")
    body_bytes: PositiveInt = Field(8 * 1024 * 1024, description="Bytes of one HTTP body.")
    batch_events: PositiveInt = Field(1000, description="Events in one HTTP batch.")
    commands_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        100, description="Commands of one connection, 3013."
    )
    command_burst: PositiveInt = Field(200, description="Commands that may come at once.")
    queue_bytes: PositiveInt = Field(1024 * 1024, description="Bytes waiting for one connection; more: closed, 3008.")
    request_seconds: PositiveSeconds = Field(
        30, description="Seconds until a request, or 64 KiB more of its body, must have come; 408."
    )
    authentication_seconds: PositiveSeconds = Field(10, description="Seconds until `connect` must have come; 3502.")
    concurrent_rpcs: PositiveInt = Field(8, description="Calls of one connection that run at once.")


class PingSettings(Section):
    """Application-level ping of the client protocol."""

    interval: PositiveSeconds = Field(25, description="Seconds between pings.")
    timeout: PositiveSeconds = Field(8, description="Seconds to answer a ping; none: closed with 3012.")


class ChannelSettings(Section):
    """What channels offer."""

    personal: bool = Field(True, description="Every connection is subscribed to its user's channel `#<user id>`.")
    presence: bool = Field(True, description="Channels know which connections are in them.")
    join_leave: bool = Field(True, description="Subscriptions may ask for join and leave messages.")
    client_publish: bool = Field(True, description="Clients may publish to their own channels.")
    position_check: PositiveSeconds = Field(
        40,
        description="Seconds after which positions of subscriptions are checked again, with the client's next pong: by"
        " default every 50 seconds.",
    )


class EmergencySettings(Section):
    """When the gateway enters emergency by itself, and when it leaves. A rule at 0 is off, and by default all are."""

    memory_bytes: Annotated[int, Field(ge=0)] = Field(0, description="Resident memory of the process; more: emergency.")
    queue_bytes: Annotated[int, Field(ge=0)] = Field(
        0, description="Bytes that wait for all connections and, in degraded mode, for the broker; more: emergency."
    )
    error_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        0, description="Share of publishes and commands that end in an internal error; more: emergency."
    )
    error_seconds: PositiveSeconds = Field(60, description="Seconds over which that share is taken.")
    error_samples: PositiveInt = Field(100, description="Publishes and commands below which it counts as 0.")
    leave_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.8, description="Share of its limit below which everything must be for the emergency to end."
    )
    leave_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        30, description="Seconds for which it must be so without a break."
    )
    check_interval: Annotated[float, Field(ge=0.01, allow_inf_nan=False)] = Field(
        2, description="Seconds from one look at all of this to the next."
    )


class ModeSettings(Section):
    """How degraded and emergency behave."""

    critical_types: tuple[str, ...] = Field(
        ("emergency", "security_alert", "system_notice"), description="Event types that pass in emergency mode."
    )
    buffer_bytes: PositiveInt = Field(16 * 1024 * 1024, description="Bytes that wait in degraded mode, of all users.")
    buffer_bytes_per_user: PositiveInt = Field(1024 * 1024, description="Bytes that wait in degraded mode, of one key.")
    retry_after: PositiveInt = Field(5, description="Seconds in `Retry-After` of a refused publish.")
    max_user_modes: PositiveInt = Field(10_000, description="Users for whom an operator may set a mode.")
    emergency: EmergencySettings = EmergencySettings()


class LifecycleSettings(Section):
    """How much of the managers' lives is kept."""

    events_per_user: PositiveInt = Field(64, description="Events kept of one living manager.")
    events: PositiveInt = Field(10_000, description="Events kept in all.")


class IsolationSettings(Section):
    """The audit of the living managers in the background."""

    audit_share: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = Field(
        0, description="Share of one CPU that audits may use, 0.001 to 0.5; 0: none but those that are asked for."
    )
    audit_interval: Annotated[float, Field(ge=1, le=86400, allow_inf_nan=False)] = Field(
        60, description="Seconds from the end of an audit to the next one."
    )

    @field_validator("audit_share")
    @classmethod
    def _not_endless(cls, value: float) -> float:
        if 0 < value < 0.001:
            raise ValueError("should be 0, or 0.001 to 0.5: with less an audit would take hours")
        return value


class LogSettings(Section):
    """Structured logs on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is written.")
    format: Literal["console", "json"] = Field("json", description="For people, or one JSON object per line.")


class ShutdownSettings(Section):
    """How the process stops."""

    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        2, description="Seconds over which connections get 3001."
    )
    grace_seconds: PositiveSeconds = Field(10, description="Seconds after which whatever is still open is cut off.")
