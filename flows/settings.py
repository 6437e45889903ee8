"""All settings: one frozen object from environment variables and an optional TOML file, checked before anything starts.

An environment variable is ``CASCADEWATCH_`` and the key in capitals, parts joined by two underscores:
``CASCADEWATCH_METRICS__PORT=9500`` is ``[metrics] port = 9500`` of the file. The environment wins over the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from connectors.secrets import SECRETS, secrets_in_options, secrets_in_url
from connectors.sinks.delta_tables import DEFAULT_OLD_VERSIONS_HOURS
from connectors.sinks.maintenance import DEFAULT_TARGET_FILE_BYTES
from connectors.sinks.tables import TABLES
from connectors.sources.registry import VENUES
from flows.parameter_rules import sensible, spelled_out, texts_of
from flows.settings_errors import lines_of
from market.parameters import Parameters
from market.shards import WHOLE, Shard

ENV_PREFIX = "CASCADEWATCH_"
CONFIG_VARIABLE = "CASCADEWATCH_CONFIG"

MAX_CONFIRMATIONS = 64
"""Two epochs: what is so deep is final, and ``finalized`` says it better."""


class SettingsError(Exception):
    """A setting is wrong; the message names each key, its value and what is allowed."""


def _listed(value: Any) -> Any:
    return texts_of(value) if isinstance(value, str) else value


def _known_venues(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(VENUES))
    if unknown or not names:
        raise ValueError(f"unknown venue {', '.join(unknown) or '(none given)'}; allowed: {', '.join(VENUES)}")
    return tuple(dict.fromkeys(names))


def _begins_with(*schemes: str) -> AfterValidator:
    def check(url: str) -> str:
        _scheme, _, rest = url.partition("://")
        if not url.startswith(schemes) or not rest.strip("/"):
            raise ValueError(f"a base URL begins with {' or '.join(schemes)} and goes on with a host")
        if not _has_a_place(url):
            raise ValueError("the host or the port is none")
        return url.rstrip("/")

    return AfterValidator(check)


def _has_a_place(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0) and url.isprintable() and " " not in url
    except ValueError:
        return False


def _without_credentials(uri: str) -> str:
    if "://" in uri and ("@" in uri or "?" in uri):
        raise ValueError("credentials do not belong here, where they would be shown: put them into sink.storage_options")
    return uri


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path.parts[0]} is nobody's home directory") from error


def _node_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("http://", "https://")) or not _has_a_place(url.get_secret_value()):
        raise ValueError("an endpoint begins with http:// or https:// and goes on with a host")
    return url


def _confirmations(value: Any) -> int | Literal["finalized"]:
    if value == "finalized":
        return "finalized"
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and int(text) <= MAX_CONFIRMATIONS):
        raise ValueError(f"allowed is 0 to {MAX_CONFIRMATIONS}, or finalized")
    return int(text)


def _spelt_shard(text: str) -> str:
    return str(Shard.parse(text.strip()))


def _none_by_name(value: Any) -> Any:
    return None if value == "none" else value  # TOML has no other word for it


def _for_known_venues(endpoints: dict[str, EndpointSettings]) -> dict[str, EndpointSettings]:
    unknown = sorted(set(endpoints) - set(VENUES))
    if unknown:
        raise ValueError(f"unknown venue {', '.join(unknown)}; allowed: {', '.join(VENUES)}")
    return endpoints


RestUrl = Annotated[str, _begins_with("http://", "https://")]
WebSocketUrl = Annotated[str, _begins_with("ws://", "wss://")]
Folder = Annotated[Path, AfterValidator(_at_home)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class EndpointSettings(_Section):
    """Where one venue is reached, when not at the vendor's own address."""

    rest_url: RestUrl = Field(description="http or https; the venue's own paths follow it")
    websocket_url: WebSocketUrl = Field(description="ws or wss; the same")


class ChainSettings(_Section):
    """Ethereum. Without ``url`` there is no Stablecoin Pressure, and scores say so."""

    url: Annotated[SecretStr, AfterValidator(_node_url)] | None = Field(
        default=None, description="JSON-RPC endpoint; may hold an API key, so it is never logged"
    )
    confirmations: Annotated[int | Literal["finalized"], PlainValidator(_confirmations)] = Field(
        default=3, description="blocks behind the head that are read, 0 to 64; or finalized, which is 13 to 19 minutes behind"
    )
    poll_seconds: float = Field(default=12.0, gt=0, description="an Ethereum block comes every 12 s")
    lookback_blocks: int = Field(default=1_250, ge=1, description="read at start, so that the 4-hour look-back is filled")


MiningSource = Literal["mempool", "blockchain-com", "coin-metrics"]


class MiningSettings(_Section):
    """Bitcoin difficulty, price history and fees."""

    source: Annotated[MiningSource | None, BeforeValidator(_none_by_name)] = Field(
        default="mempool", description="or none: then there is no Difficulty Multiple, and scores say so"
    )
    fallback: Annotated[MiningSource | None, BeforeValidator(_none_by_name)] = Field(
        default=None, description="asked while the source fails"
    )
    base_urls: dict[MiningSource, RestUrl] = Field(
        default_factory=dict, description="by source, when not the operator's own address"
    )


class MetricsSettings(_Section):
    """The HTTP server for /metrics, /healthz and /readyz."""

    host: str = Field(default="127.0.0.1", description="loopback unless told otherwise: there is no authentication")
    port: int = Field(default=9464, ge=0, le=65_535, description="0 picks a free one")


class AlertmanagerSettings(_Section):
    """Alerts pushed straight to Alertmanager. Without ``urls`` nothing is pushed, and Prometheus's rules do it alone."""

    urls: Annotated[
        tuple[Annotated[RestUrl, AfterValidator(_without_credentials)], ...], NoDecode, BeforeValidator(_listed)
    ] = Field(default=(), description="base URLs, as a list or separated by commas; every one gets every alert")
    username: str | None = Field(default=None, description="for HTTP basic authentication, with password_file")
    password_file: Folder | None = Field(default=None, description="file that holds the password; read for each push")
    bearer_token_file: Folder | None = Field(default=None, description="file that holds a bearer token, instead of the two")
    resend_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="what fires is said again so often; four times as long after the last word Alertmanager takes it for over",
    )
    max_age_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="a change older than this, read again after a restart say, is not said before the flow has caught up",
    )
    runbooks_url: RestUrl | None = Field(
        default=None,
        description="where the folder deploy/runbooks can be read; without it links name the place in the repository",
    )
    dashboard_url: RestUrl | None = Field(
        default=None, description="of the dashboard of an asset; {asset} stands for the asset"
    )

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> AlertmanagerSettings:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together")
        if self.username is not None and self.bearer_token_file is not None:
            raise ValueError("give username and password_file, or bearer_token_file, not both")
        return self


class JournalSettings(_Section):
    """The journal of frames."""

    retention_seconds: float = Field(default=3600.0, ge=0, description="what can always be replayed")
    limit_bytes: int = Field(default=4 * 1024**3, ge=1024**2, description="beyond it only what is needed to resume is kept")


class SinkSettings(_Section):
    """From rows to Delta tables."""

    tables_uri: Annotated[str, AfterValidator(_without_credentials)] | None = Field(
        default=None,
        description="folder or object-store URI such as s3://bucket/prefix; no credentials; by default tables in data_dir",
    )
    storage_options: dict[str, SecretStr] = Field(
        default_factory=dict, description="for the object store, by the names that delta-rs gives them; never logged"
    )
    commit_interval_seconds: float = Field(default=5.0, gt=0, le=3600, description="rows of so long make one commit")
    spool_limit_bytes: int = Field(default=2 * 1024**3, ge=1024**2, description="beyond it the flow waits for the store")


def _for_known_tables(days: dict[str, int]) -> dict[str, int]:
    known = [table.name for table in TABLES]
    unknown = sorted(set(days) - set(known))
    if unknown:
        raise ValueError(f"unknown table {', '.join(unknown)}; allowed: {', '.join(known)}")
    return days


class MaintenanceSettings(_Section):
    """What ``cascadewatch maintain`` keeps, and how large it makes files."""

    retention_days: Annotated[dict[str, Annotated[int, Field(ge=1)]], AfterValidator(_for_known_tables)] = Field(
        default_factory=dict, description="by table: days (UTC) besides today whose rows are kept; a table not named keeps all"
    )
    vacuum_retention_hours: int = Field(
        default=DEFAULT_OLD_VERSIONS_HOURS,
        ge=0,
        le=24 * 365,
        description="files and log entries of older versions are kept so long, for readers that still use them; below 1 only "
        "with --force",
    )
    target_file_bytes: int = Field(
        default=DEFAULT_TARGET_FILE_BYTES, ge=1024**2, description="small files of one day are merged up to about this size"
    )


class Settings(BaseSettings):
    """Every setting of a run."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_default=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )

    data_dir: Folder = Field(default=Path("data"), description="journal, spool, recovery and, by default, tables")
    shard: Annotated[str, AfterValidator(_spelt_shard)] | None = Field(
        default=None, description="i/n: have the assets of shard i of n only, i from 0 to n - 1; see docs/scaling.md"
    )
    venues: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_known_venues)] = Field(
        default=tuple(VENUES), description="exchanges to watch, as a list or separated by commas"
    )
    endpoints: Annotated[dict[str, EndpointSettings], AfterValidator(_for_known_venues)] = Field(
        default_factory=dict, description="by venue, when not the vendor's own address"
    )
    chain: ChainSettings = ChainSettings()
    mining: MiningSettings = MiningSettings()
    metrics: MetricsSettings = MetricsSettings()
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()
    journal: JournalSettings = JournalSettings()
    sink: SinkSettings = SinkSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    epoch_seconds: float = Field(default=5.0, gt=0, le=60, description="state and rows become durable so often")
    cluster_patience_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="a process of a Bytewax cluster whose dataflow stands still for so long ends"
    )
    ca_file: Folder | None = Field(
        default=None,
        description="PEM file of a private certificate authority, trusted besides the system's by sockets, polls, JSON-RPC "
        "and pushes to Alertmanager",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="of what is logged, at least")
    parameters: Annotated[Parameters, BeforeValidator(spelled_out), AfterValidator(sensible)] = Field(
        default=Parameters(), description="every number that a score depends on"
    )

    @property
    def tables_uri(self) -> str:
        """Where the tables are."""
        return self.sink.tables_uri or str(self.data_dir / "tables")

    @property
    def own_shard(self) -> Shard:
        """The share of the assets that this process has."""
        return WHOLE if self.shard is None else Shard.parse(self.shard)

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
    # "from None": the causes hold the values, secrets among them, and tracebacks print causes.
    try:
        settings = Settings(**(overrides or {}))
    except ValidationError as error:
        raise SettingsError("wrong settings:\n  " + "\n  ".join(lines_of(error, Settings))) from None
    except (OSError, ValueError, RecursionError) as error:  # lists within lists without end
        raise SettingsError(f"the settings cannot be read: {error}") from None
    SECRETS.know(secrets_of(settings))
    return settings


def secrets_of(settings: Settings) -> set[str]:
    """Return every text in the settings that may be a secret, or a part of one."""
    urls = [url for each in settings.endpoints.values() for url in (each.rest_url, each.websocket_url)]
    urls += settings.mining.base_urls.values()
    urls += settings.alertmanager.urls
    secrets = secrets_in_options(settings.storage_options().items())
    if settings.chain.url is not None:
        urls.append(settings.chain.url.get_secret_value())
        secrets |= {url for url in urls[-1:] if secrets_in_url(url)}
    return secrets.union(*map(secrets_in_url, urls))


def _refuse_unknown_variables() -> None:
    """A misspelt variable would silently leave a default in force."""
    unknown = [
        name
        for name in sorted(os.environ)
        if name.upper().startswith(ENV_PREFIX)
        and name != CONFIG_VARIABLE
        and name[len(ENV_PREFIX) :].split("__")[0].lower() not in Settings.model_fields
    ]
    if unknown:
        allowed = ", ".join(sorted(Settings.model_fields))
        raise SettingsError(
            f"unknown variable {', '.join(unknown)}; after {ENV_PREFIX} may come, in capitals, config or one of {allowed}; "
            "then two underscores and the next part, where there is one"
        )
    file = os.environ.get(CONFIG_VARIABLE)
    if file and not Path(file).is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names {file}, which is not a file")
