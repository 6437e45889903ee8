"""All settings: one frozen object from environment variables and an optional TOML file, checked before anything starts.

An environment variable is ``CASCADEWATCH_`` and the key in capitals, parts joined by two underscores:
``CASCADEWATCH_METRICS__PORT=9500`` is ``[metrics] port = 9500`` of the file. The environment wins over the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from connectors.sources.registry import VENUES
from market.parameters import Parameters

ENV_PREFIX = "CASCADEWATCH_"
CONFIG_VARIABLE = "CASCADEWATCH_CONFIG"


class SettingsError(Exception):
    """A setting is wrong; the message names each key, its value and what is allowed."""


def _known_venues(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(VENUES))
    if unknown or not names:
        raise ValueError(f"unknown venue {', '.join(unknown) or '(none given)'}; allowed: {', '.join(VENUES)}")
    return names


def _base_url(url: str) -> str:
    if not url.startswith(("http://", "https://", "ws://", "wss://")):
        raise ValueError("a base URL begins with http://, https://, ws:// or wss://")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointSettings(_Section):
    """Where one venue is reached, when not at the vendor's own address."""

    rest_url: BaseUrl
    websocket_url: BaseUrl


class ChainSettings(_Section):
    """Ethereum. Without ``url`` there is no Stablecoin Pressure, and scores say so."""

    url: SecretStr | None = Field(None, description="JSON-RPC endpoint; may hold an API key, so it is never logged")
    confirmations: int = Field(3, ge=0, le=64, description="blocks behind the head that are read")
    poll_seconds: float = Field(12.0, gt=0, description="an Ethereum block comes every 12 s")
    lookback_blocks: int = Field(1_250, ge=1, description="read at start, so that the 4-hour look-back is filled")


MiningSource = Literal["mempool", "blockchain-com", "coin-metrics"]


class MiningSettings(_Section):
    """Bitcoin difficulty, price history and fees."""

    source: MiningSource | None = Field("mempool", description="none: no Difficulty Multiple, and scores say so")
    fallback: MiningSource | None = Field(None, description="asked while the source fails")
    base_urls: dict[MiningSource, BaseUrl] = Field(default_factory=dict, description="when not the vendor's own address")


class MetricsSettings(_Section):
    """The HTTP server for /metrics, /healthz and /readyz."""

    host: str = Field("127.0.0.1", description="loopback unless told otherwise: there is no authentication")
    port: int = Field(9464, ge=0, le=65_535, description="0 picks a free one")


class JournalSettings(_Section):
    """The journal of frames."""

    retention_seconds: float = Field(3600.0, ge=0, description="what can always be replayed")
    limit_bytes: int = Field(4 * 1024**3, ge=1024**2, description="beyond it only what is needed to resume is kept")


class SinkSettings(_Section):
    """From rows to Delta tables."""

    tables_uri: str | None = Field(None, description="folder or object-store URI; by default DATA_DIR/tables")
    storage_options: dict[str, SecretStr] = Field(default_factory=dict, description="for the object store")
    commit_interval_seconds: float = Field(5.0, gt=0, le=3600, description="rows of so long make one commit")
    spool_limit_bytes: int = Field(2 * 1024**3, ge=1024**2, description="beyond it the flow waits for the store")


class Settings(BaseSettings):
    """Every setting of a run."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )

    data_dir: Path = Field(Path("data"), description="journal, spool, recovery and, by default, tables")
    venues: Annotated[tuple[str, ...], NoDecode, AfterValidator(_known_venues)] = Field(
        tuple(VENUES), description="exchanges to watch"
    )
    endpoints: dict[str, EndpointSettings] = Field(default_factory=dict, description="by venue")
    chain: ChainSettings = ChainSettings()
    mining: MiningSettings = MiningSettings()
    metrics: MetricsSettings = MetricsSettings()
    journal: JournalSettings = JournalSettings()
    sink: SinkSettings = SinkSettings()
    epoch_seconds: float = Field(1.0, gt=0, le=60, description="state and rows become durable so often")
    ca_file: Path | None = Field(None, description="a private certificate authority, added to the system's")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    parameters: Parameters = Parameters()

    @property
    def tables_uri(self) -> str:
        """Where the tables are."""
        return self.sink.tables_uri or str(self.data_dir / "tables")

    def storage_options(self) -> dict[str, str]:
        """Return what the object store wants, in plain text: for delta-rs, never for a log."""
        return {name: value.get_secret_value() for name, value in self.sink.storage_options.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used: one file is enough
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        file = os.environ.get(CONFIG_VARIABLE)
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(file))) if file else sources


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of this process.

    Args:
        overrides: From the command line; they win.

    Raises:
        SettingsError: With one line per wrong key.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']} (value: {item['input']!r})"
            for item in error.errors()
        ]
        raise SettingsError("wrong settings:\n  " + "\n  ".join(lines)) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings cannot be read: {error}") from error


def _refuse_unknown_variables() -> None:
    """A misspelt variable would silently leave a default in force."""
    for name in os.environ:
        key = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
        if name.startswith(ENV_PREFIX) and name != CONFIG_VARIABLE and key not in Settings.model_fields:
            raise SettingsError(f"unknown setting {name}; allowed: {', '.join(sorted(Settings.model_fields))}")
    file = os.environ.get(CONFIG_VARIABLE)
    if file and not Path(file).is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names {file}, which is not a file")
