"""Settings: by flag, by environment (`FHIR_PORT=8000`), by file (`port = 8000`), in this order of precedence.

Rules.
1. This module only composes the frozen option dataclasses that packages declare; what an option means is said where it is used.
2. The file is `FHIR_CONFIG`, or else `fhir-server.toml` in the data folder when it exists. Options of a group are a table in the
   file (`[search]`, `page = 50`) and have two underscores in the environment (`FHIR_SEARCH__PAGE=50`).
3. An unknown name in the file is an error. An unknown `FHIR_...` variable is reported and left alone: orchestrators make such
   variables by themselves (`FHIR_SERVICE_HOST`).
4. The FHIR base is `{public_url}/fhir`, never guessed from a request.
5. Options of authorization are settings of their own, `auth_...`, put together by `Settings.smart`.
"""

import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from fhir_server.audit.options import AuditOptions
from fhir_server.http.address import Network
from fhir_server.http.options import HttpLimits, RateOptions
from fhir_server.interactions.options import RestOptions
from fhir_server.observability.options import ObservabilityOptions, OtelOptions
from fhir_server.storage.sqlite.connection import SqliteOptions
from search.limits import SearchLimits
from smart_auth.options import LONGEST_TOKEN, SmartOptions

_SMART = SmartOptions()
PREFIX = "FHIR_"
FILE_NAME = "fhir-server.toml"
CONFIG_VARIABLE = "FHIR_CONFIG"


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("must be http(s)://host, perhaps with port and path")
    return text


PublicUrl = Annotated[str, AfterValidator(_public_url)]
"""A URL under which the server is reached."""


class SettingsFault(Exception):  # noqa: N818  (the user's mistake, shown as a sentence)
    """A setting that cannot be used; the message names it, its source and the reason."""


class Settings(BaseSettings):
    """All settings of the server. Made by `load_settings`; frozen."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    public_url: Annotated[
        PublicUrl | None, Field(description="how clients reach the server; http://localhost:PORT unless set")
    ] = None
    aliases: Annotated[
        tuple[PublicUrl, ...], Field(description="other public URLs under which the server is known")
    ] = ()
    tls_cert: Annotated[Path | None, Field(description="certificate chain (PEM); with it the server speaks https")] = (
        None
    )
    tls_key: Annotated[Path | None, Field(description="private key of the certificate (PEM, without passphrase)")] = (
        None
    )
    trusted_proxies: Annotated[
        tuple[Network, ...], Field(description="networks of the proxies whose X-Forwarded-For is believed")
    ] = ()
    data_dir: Annotated[Path, Field(description="folder of the database")] = Path("data")
    workers: Annotated[int, Field(ge=1, le=256, description="serving processes")] = 1
    pid_file: Annotated[Path | None, Field(description="file that holds the process id while the server runs")] = None
    demo: Annotated[bool, Field(description="load a small made-up hospital at start")] = False
    auth: Annotated[Literal["required", "off"], Field(description="access control; off serves this machine alone")] = (
        "required"
    )
    auth_access_token_seconds: Annotated[
        int, Field(ge=60, le=LONGEST_TOKEN, description="life of a person's access token")
    ] = _SMART.access_seconds
    auth_backend_token_seconds: Annotated[
        int, Field(ge=1, le=LONGEST_TOKEN, description="life of a backend service's access token")
    ] = _SMART.backend_seconds
    auth_refresh_days: Annotated[
        int, Field(ge=1, le=3650, description="days for which an offline refresh token lasts after its last use")
    ] = _SMART.refresh_days
    auth_login_limit: Annotated[
        int, Field(ge=1, le=1000, description="failed logins in a row before one has to wait")
    ] = _SMART.login_limit
    auth_idle_seconds: Annotated[
        int, Field(ge=60, le=LONGEST_TOKEN, description="a session ends after so long without a request")
    ] = _SMART.idle_seconds
    auth_session_seconds: Annotated[
        int, Field(ge=60, le=LONGEST_TOKEN, description="a session ends so long after the login")
    ] = _SMART.session_seconds
    auth_password_length: Annotated[int, Field(ge=8, le=64, description="characters that a password must have")] = (
        _SMART.password_length
    )
    auth_assigned_days_after: Annotated[
        int, Field(ge=0, le=3650, description="days after an Encounter's end for which its people may see the patient")
    ] = _SMART.assigned_days_after
    auth_appointment_days_before: Annotated[
        int, Field(ge=0, le=3650, description="days before an Appointment for which its people may see the patient")
    ] = _SMART.appointment_days_before
    auth_appointment_days_after: Annotated[
        int, Field(ge=0, le=3650, description="days after an Appointment for which its people may see the patient")
    ] = _SMART.appointment_days_after
    auth_release_preliminary: Annotated[bool, Field(description="patients also see what is preliminary")] = (
        _SMART.release_preliminary
    )
    store: Annotated[SqliteOptions, Field(description="the SQLite store")] = SqliteOptions()
    rest: Annotated[RestOptions, Field(description="FHIR interactions")] = RestOptions()
    search: Annotated[SearchLimits, Field(description="what one search may ask for")] = SearchLimits()
    limits: Annotated[HttpLimits, Field(description="what one request may ask for")] = HttpLimits()
    rates: Annotated[RateOptions, Field(description="how many requests anybody may send")] = RateOptions()
    watchdog_seconds: Annotated[
        float, Field(ge=0, description="seconds after which a serving process that hangs is ended; 0 for never")
    ] = 30.0
    grace: Annotated[float, Field(gt=0, le=600, description="seconds that requests in flight get at shutdown")] = 10.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least severity that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"], Field(description="json or text; auto: text on a terminal, else json")
    ] = "auto"
    audit: Annotated[AuditOptions, Field(description="the audit trail")] = AuditOptions()
    observability: Annotated[ObservabilityOptions, Field(description="metrics and slow requests")] = (
        ObservabilityOptions()
    )
    otel: Annotated[OtelOptions, Field(description="traces")] = OtelOptions()

    @property
    def public(self) -> str:
        """The public URL without a slash at its end."""
        return (self.public_url or f"{self.scheme}://localhost:{self.port}").rstrip("/")

    @property
    def recorded(self) -> bool:
        """Whether requests go into the audit trail."""
        return self.auth != "off" if self.audit.enabled is None else self.audit.enabled

    @property
    def scheme(self) -> str:
        """What the server itself speaks: http or https."""
        return "https" if self.tls_cert else "http"

    @property
    def base(self) -> str:
        """The FHIR base: `http://localhost:8000/fhir`."""
        return f"{self.public}/fhir"

    @property
    def smart(self) -> SmartOptions:
        """The options of authorization."""
        return SmartOptions(
            access_seconds=self.auth_access_token_seconds,
            backend_seconds=self.auth_backend_token_seconds,
            refresh_days=self.auth_refresh_days,
            login_limit=self.auth_login_limit,
            idle_seconds=self.auth_idle_seconds,
            session_seconds=self.auth_session_seconds,
            password_length=self.auth_password_length,
            assigned_days_after=self.auth_assigned_days_after,
            appointment_days_before=self.auth_appointment_days_before,
            appointment_days_after=self.auth_appointment_days_after,
            release_preliminary=self.auth_release_preliminary,
        )

    @property
    def base_aliases(self) -> tuple[str, ...]:
        """Other bases whose references mean this server: the configured ones, and the loopback address of a local server."""
        urls = [url.rstrip("/") for url in self.aliases]
        if is_loopback(self.host):
            urls += [f"{self.scheme}://{host}:{self.port}" for host in ("localhost", "127.0.0.1", "[::1]")]
        return tuple(dict.fromkeys(f"{url}/fhir" for url in urls if url != self.public))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (the signature is pydantic's)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but the arguments: `load_settings` merges the sources, since it has to tell them apart."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Explained:
    """One setting for people: dotted name, variable, shown value (secrets hidden), where the value is from, what it is for."""

    name: str
    variable: str
    value: str
    source: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, the source of each dotted name that is not a default, and `FHIR_...` variables that mean nothing."""

    settings: Settings
    sources: Mapping[str, str]
    unknown_variables: tuple[str, ...]


def is_loopback(host: str) -> bool:
    """Whether listening on `host` is open to this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load_settings(flags: Mapping[str, Any]) -> Loaded:
    """Merge flags (absent or None: not given), environment and file. Raises SettingsFault naming every faulty setting."""
    given = {name: value for name, value in flags.items() if value is not None}
    environment = _environment()
    path, file = _file(
        Path(given.get("data_dir") or environment.get("data_dir") or Settings.model_fields["data_dir"].default)
    )
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, values in ((f"file {path}", file), ("environment", environment), ("flag", given)):
        for name, value in _flat(values):
            _assign(merged, name, value)
            sources[name] = source
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise SettingsFault(_explain_faults(error, sources)) from None
    known = {explained.variable for explained in explain(Loaded(settings, sources, ()))} | {CONFIG_VARIABLE}
    unknown = tuple(sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known))
    return Loaded(settings, sources, unknown)


def explain(loaded: Loaded) -> list[Explained]:
    """Every setting with its value and source, in the order of declaration."""
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(loaded.settings, name)
        members = _members(name, value) if is_dataclass(value) else [(name, value)]
        rows += [
            Explained(
                dotted,
                PREFIX + dotted.upper().replace(".", "__"),
                _shown(member),
                loaded.sources.get(dotted, "default"),
                field.description or "",
            )
            for dotted, member in members
        ]
    return rows


def _environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        name = str(error).partition('"')[2].partition('"')[0]
        raise SettingsFault(
            f"setting {name} (environment): {PREFIX}{name.upper()} is a list or group and must be JSON"
        ) from None


def _file(data_dir: Path) -> tuple[Path, dict[str, Any]]:
    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else data_dir / FILE_NAME
    if not named and not path.is_file():
        return path, {}
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsFault(f"settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsFault(f"settings file {path}: {error}") from None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"search": {"page": 5}}` -> `search.page`, 5."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _assign(tree: dict[str, Any], name: str, value: Any) -> None:
    *groups, last = name.split(".")
    for group in groups:
        tree = tree.setdefault(group, {})
    tree[last] = value


def _members(prefix: str, options: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from _members(f"{prefix}.{field.name}", value)
        else:
            yield f"{prefix}.{field.name}", value


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _explain_faults(error: ValidationError, sources: Mapping[str, str]) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
        message = "there is no such setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"setting {name} ({sources.get(name, 'default')}): {message}")
    return "\n".join(lines)
