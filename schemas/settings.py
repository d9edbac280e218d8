"""The one place for settings: environment variables, `.env`, and the endpoints of the running local pipeline."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

CHECKOUT = Path(__file__).resolve().parent.parent
HOME = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()


def _plain(name: str, prefixed: str) -> AliasChoices:
    """A variable that the field knows under its own name, beside the one with our prefix."""
    return AliasChoices(name, prefixed, prefixed.removeprefix("CROSSFADE_").lower())


class Settings(BaseSettings):
    """What a stage needs to know. Every field is an environment variable `CROSSFADE_<FIELD>` unless an alias is named.

    Order of precedence: arguments, environment, `.env` in the checkout, `<data_dir>/endpoints.json` (written by
    `crossfade run` while it runs, so that every command finds the running pipeline), defaults.
    """

    model_config = SettingsConfigDict(
        env_prefix="CROSSFADE_", env_file=HOME / ".env", extra="ignore", env_ignore_empty=True
    )

    data_dir: Path = Field(HOME / ".crossfade", description="Kafka logs, warehouse file, keys; `--fresh` empties it.")
    cache_dir: Path = Field(
        Path.home() / ".cache" / "crossfade", description="Downloads that survive `--fresh`: the Kafka jars."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    kafka_bootstrap_servers: str = Field(
        "",
        description="A Kafka of one's own. Empty: `crossfade run` starts an embedded one.",
        validation_alias=_plain("KAFKA_BOOTSTRAP_SERVERS", "CROSSFADE_KAFKA_BOOTSTRAP_SERVERS"),
    )
    schema_registry_url: str = Field(
        "",
        description="Confluent-compatible registry. Set: records are written in Confluent wire format.",
        validation_alias=_plain("SCHEMA_REGISTRY_URL", "CROSSFADE_SCHEMA_REGISTRY_URL"),
    )
    anthropic_api_key: SecretStr = Field(
        SecretStr(""),
        description="Claude answers mood, genre and context. Empty: rules answer, and say so in the row.",
        validation_alias=_plain("ANTHROPIC_API_KEY", "CROSSFADE_ANTHROPIC_API_KEY"),
    )
    anthropic_model: str = "claude-sonnet-4-5"
    enrichment_budget_usd: float = Field(1.0, ge=0, description="Claude is asked no more once this is spent in a run.")

    workers: int = Field(1, ge=1, le=64, description="Worker processes of a local run; they share the partitions.")
    worker_name: str = Field("worker", description="Names this worker among several: its directory in `data_dir`.")
    partitions: int = Field(4, ge=1, description="Partitions of `listening-events`; users are spread over them.")
    replication_factor: int = Field(1, ge=1)
    retention_hours: int = Field(7 * 24, ge=1, description="How long Kafka keeps events: the replay horizon.")

    tenant: str = Field("default", description="Tenant of events from the simulator, replay and import.")
    pseudonym_secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="HMAC secret per tenant, as JSON. A tenant without one gets one, kept in `<data_dir>/secrets/`.",
    )

    location_precision: Literal["none", "city", "told"] = Field(
        "city", description="How exact a `location` the doors let in: a city at most, nothing, or what a client tells."
    )

    collector_host: str = "127.0.0.1"
    collector_port: int = 8081
    collector_in_flight_max: int = Field(10_000, description="Unacknowledged events before the collector answers 429.")
    collector_rate_per_s: int = Field(50_000, ge=1, description="Events a second of an API key without its own rate.")
    collector_cors_origins: list[str] = Field(
        default_factory=list, description='Origins whose pages may send events, as JSON: ["https://radio.example"].'
    )
    web_host: str = "127.0.0.1"
    web_port: int = 8000
    stage_host: str = Field("127.0.0.1", description="Address of the /metrics and /healthz endpoints of every stage.")
    worker_metrics_port: int = Field(9101, description="Of the first worker; the next workers take the ports after it.")
    sink_metrics_port: int = 9102
    enrichment_metrics_port: int = 9103
    simulator_metrics_port: int = Field(0, description="0: any free port.")

    window_ms: int = Field(60_000, ge=1000, description="Length of the tumbling windows.")
    grace_ms: int = Field(10_000, ge=0, description="How long after its end a window still takes events.")
    idle_ms: int = Field(5_000, ge=100, description="A partition without events for so long no longer holds back time.")
    emit: Literal["final", "early"] = Field(
        "final", description="early: window-metrics also gets first results of open windows, marked as such."
    )
    early_every_ms: int = Field(5_000, ge=100, description="How often early results are told.")
    snapshot_every_ms: int = Field(1_000, ge=50, description="How often a partition's state goes to its changelog.")
    standby_replicas: int = Field(
        0,
        ge=0,
        description="Other workers that keep a copy of each partition's state: a takeover need not read it first.",
    )
    play_timeout_ms: int = Field(3_600_000, description="An open play without an end is closed after so long.")
    session_gap_ms: int = Field(1_800_000, description="A listener who does nothing for longer begins a new session.")
    session_timeout_ms: int = Field(6_000, description="Kafka session time-out of the workers.")

    warehouse: Literal["duckdb", "bigquery"] = "duckdb"
    dataset: str = "music_analytics"
    bigquery_project: str = ""
    bigquery_endpoint: str = Field("", description="REST endpoint of an emulator; empty: Google's.")
    bigquery_grpc_endpoint: str = Field("", description="Storage Write API endpoint of an emulator; empty: Google's.")
    quack_port: int = Field(9494, description="DuckDB's server protocol, spoken by the sink that owns the file.")
    sink_batch_rows: int = Field(125_000, ge=1, description="Records of a topic in one commit of the sink.")

    @property
    def duckdb_file(self) -> Path:
        """The warehouse file of the embedded DuckDB."""
        return self.data_dir / "warehouse" / f"{self.dataset}.duckdb"

    @property
    def quack_token_file(self) -> Path:
        """Token of DuckDB's server protocol, made by the sink with mode 0600."""
        return self.data_dir / "secrets" / "quack-token"

    @property
    def dev_api_key_file(self) -> Path:
        """The collector's development key, made by `crossfade run` with mode 0600."""
        return self.data_dir / "dev-api-key"

    @property
    def endpoints_file(self) -> Path:
        """Addresses of the running local pipeline, as a JSON object of settings."""
        return self.data_dir / "endpoints.json"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the name is the base class's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Adds `endpoints.json` of the data directory below everything that a person sets."""
        stated = {**dotenv_settings(), **env_settings(), **init_settings()}
        data_dir = Path(stated.get("data_dir") or HOME / ".crossfade")
        endpoints = JsonConfigSettingsSource(settings_cls, json_file=data_dir / "endpoints.json")
        return init_settings, env_settings, dotenv_settings, endpoints


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
