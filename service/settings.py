"""Every setting of the service, once: its name, default, bounds and meaning.

Read from `RERANK_*` environment variables; the command line of `__main__` is generated from the same
fields and takes precedence. Does not know what uses a setting. Long, because there is one place for them.
"""

import re
import ssl
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.settings import Decoding, Provider, SessionSettings
from service.errors import MOST_FAULTS
from service.keys import read_grants

ENV_PREFIX = "RERANK_"
DAY_S = 24 * 3600.0
STREAM_SCHEMES = ("redis", "rediss", "unix")
LEAST_SHARE = 0.001
COLDEST = 0.1
"""Temperature at which a logit 9 below the best has a propensity of e^-90, which is 0 in float32."""
SHORTEST_KEY = 16
"""In bytes: ids can be tried out, and so must not be keys."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def _each(form: str, pattern: str) -> AfterValidator:
    """Every one of some texts is of a form. A group of the pattern's is a share."""

    def check(texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            found = re.fullmatch(pattern, text)
            if found is None or any(float(share) > 1 for share in found.groups()):
                raise ValueError(f"expected {form}, got {text!r}")
        return texts

    return AfterValidator(check)


_PART, _SHARE, _PORT = r"[^/:=\s]+", r"=(\d+|\d*\.\d+)", r"(?::\d+)?"
_ADDRESS = r"[^/:@*\[\]\s]+|\[[\da-fA-F:.]+\]"
_FROM_0_TO_1 = "with a share from 0 to 1"
Shares = Annotated[Names, _each(f"NAME/VERSION=SHARE {_FROM_0_TO_1}", f"{_PART}/{_PART}{_SHARE}")]
Shadows = Annotated[
    Names, _each(f"NAME:MODEL/VERSION=SHARE {_FROM_0_TO_1}", f"{_PART}:{_PART}/{_PART}{_SHARE}")
]
Hosts = Annotated[Names, _each("a name, *.name or an address, and no port", rf"(?:\*\.)?(?:{_ADDRESS})")]
Origins = Annotated[
    Names,
    _each("https://name[:port] as browsers send it, or *", rf"\*|[a-z][a-z\d+.-]*://(?:{_ADDRESS}){_PORT}"),
]


class Settings(BaseSettings):
    """Immutable and validated once, at start-up."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    bundle: Path = Field(
        description="what to serve: a bundle, a folder of one model's versions, or a folder of such folders"
    )
    default_model: str | None = Field(
        None, description="name of the model that answers where a request names none; if absent, the first"
    )
    shares: Shares = Field(
        (),
        description="how requests for a name are divided at the start, such as films/3=0.9,films/4=0.1; for "
        "names that are not given the current version gets all",
    )
    shadows: Shadows = Field(
        (), description="what a share of a name's requests is shown to, too, such as films:films/4=0.1"
    )
    max_models: PositiveInt = Field(8, description="most versions of models in memory at once")
    load_timeout_s: PositiveFloat = Field(
        120.0, description="longest that a change of the models may take, over all workers; then it is undone"
    )
    max_list_ms: PositiveFloat = Field(
        1000.0,
        description="longest that a list of 50 items may take with all its reasoning, as measured at warm-"
        "up; slower models are refused",
    )
    host: str = Field("127.0.0.1", description="address to listen on; `::` is all of IPv6 and IPv4")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="port to listen on; 0 picks one")
    uds: Path | None = Field(None, description="path of a unix socket to listen on, instead of a port")
    tls_key: Path | None = Field(
        None, description="PEM file of the key, without a passphrase; if absent, it is in `tls_cert`"
    )
    tls_cert: Path | None = Field(
        None, validate_default=True, description="PEM file of the certificate and its chain; makes it HTTPS"
    )
    tls_client_ca: Path | None = Field(
        None, description="PEM file of authorities, one of which must have signed every caller's certificate"
    )
    root_path: Annotated[str, Field(pattern=r"^(/[^/?#]+)*$")] = Field(
        "", description="path that a proxy puts before ours, such as /ranking"
    )
    admin_host: str = Field("127.0.0.1", description="address of `admin_port`")
    admin_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="port for /metrics, which `port` then does not answer; if absent, it does"
    )

    console: bool | None = Field(
        None, description="serve /console; if absent, it is served where only this machine reaches it"
    )
    console_lists: Path | None = Field(
        None,
        description="file of lists that /console offers, see docs/console.md; if absent, some are drawn from "
        "the catalogue",
    )

    api_keys_file: Path | None = Field(
        None, description="file of API keys, see service/keys.py; read again when it changes"
    )
    api_keys: SecretStr | None = Field(None, description="the same as text, instead of a file")
    allow_anonymous: bool = Field(
        False, description="serve without API keys on an address that others may reach"
    )
    allowed_hosts: Hosts = Field(
        (),
        description="values of Host that are answered, such as api.example.com,*.example.org; if absent, all",
    )
    cors_origins: Origins = Field(
        (), description="origins whose pages may call, such as https://shop.example.com; if absent, none"
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )
    log_ids: Literal["none", "hashed"] = Field("none", description="ids of users and items in debug lines")
    log_ids_key: SecretStr | None = Field(
        None, description="key of these hashes; if absent, a new random one for each process"
    )

    answer_log_per_s: NonNegativeFloat = Field(
        10.0,
        description="most log lines a second about answers of one code or fallback that failed, were refused "
        "or are fallbacks; the next line says how many were left out; 0 for none",
    )
    access_log_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of all other answers that get a log line"
    )

    otel_endpoint: str | None = Field(
        None,
        description="OTLP/HTTP collector for traces, such as http://127.0.0.1:4318; if absent, no tracing",
    )
    otel_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="share of requests traced, unless the caller has decided"
    )
    otel_service_name: str = Field("eglr-reranker", description="the service's name in traces")

    decision_log: str | None = Field(
        None,
        description="directory of the decision log, or the redis://, rediss:// or unix:// address of one "
        "with Redis Streams; if absent, decisions are not logged",
        repr=False,
    )
    decision_log_users: Literal["plain", "hashed", "none"] = Field(
        "plain", description="user ids in the decision log"
    )
    decision_log_key: SecretStr | None = Field(None, description="key of the hashes of user ids there")
    decision_log_key_file: Path | None = Field(None, description="file of that key, instead of the key")
    decision_log_flush_s: PositiveFloat = Field(
        1.0, description="longest that a line waits in the process; what a kill may cost at most"
    )
    decision_log_buffer_lines: PositiveInt = Field(
        10_000, description="most lines that wait to be written; more are dropped, and counted"
    )
    decision_log_buffer_bytes: PositiveInt = Field(
        67_108_864, description="most bytes of these lines, as far as they can be told before"
    )
    decision_log_rotate_bytes: PositiveInt = Field(
        134_217_728, description="size at which a file of the decision log is closed"
    )
    decision_log_rotate_s: PositiveFloat = Field(3600.0, description="age at which it is closed")
    decision_log_gzip: bool = Field(True, description="pack closed files")
    decision_log_max_bytes: PositiveInt = Field(
        10_737_418_240, description="most bytes of all files in the directory; the oldest are removed"
    )
    decision_log_stream: str = Field("rerank:decisions", description="key of the Redis Stream")
    decision_log_stream_length: PositiveInt = Field(
        1_000_000, description="about how many entries the stream keeps, the newest ones"
    )

    exploration_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="share of lists that are sampled, of requests that ask for neither sampling nor "
        "lookahead; propensities are those of the mixture",
    )
    exploration_temperature: PositiveFloat | None = Field(
        None, description="temperature of that sampling; if absent, the model's selection temperature"
    )
    exploration_stickiness: Literal["request", "user", "none"] = Field(
        "none", description="whose lists are always sampled, or never: by request id, by user id, or nobody's"
    )

    provider: Provider = Field(SessionSettings.provider, description="ONNX Runtime execution provider")
    decoding: Decoding = Field(
        SessionSettings.decoding,
        description="how slates are written: by one graph call, a graph call per micro-step, or compiled "
        "code; auto means native if the bundle supports it, else graph, and on cuda step",
    )
    require_provider: bool = Field(
        SessionSettings.require_provider, description="refuse to start when the provider is not active"
    )
    intra_op_threads: PositiveInt | None = Field(
        None,
        description="threads inside one ONNX Runtime operator; if absent, the cores of the container's quota "
        "divided by `workers`",
    )
    keep_freed_mib: NonNegativeInt = Field(
        SessionSettings.keep_freed_mib,
        description="most freed memory to keep for the next batch, in MiB; 0 leaves this to the system",
    )
    max_batch_size: PositiveInt = Field(16, description="most requests in one inference")
    batch_ms: NonNegativeFloat = Field(
        3.0,
        description="longest that a batch is predicted to take, at the speed measured at start-up; a request "
        "that takes longer by itself is generated in a thread, beside the others",
    )
    max_queue: PositiveInt = Field(
        1024, description="most requests that wait for a model, whatever wait is predicted; then overload"
    )
    default_deadline_ms: PositiveFloat = Field(1000.0, description="deadline of requests that do not set one")
    max_deadline_ms: PositiveFloat = Field(10_000.0, description="longest deadline a request may set")

    shadow_load: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="share of the time of one core that shadows may take, in a worker"
    )
    shadow_queue: PositiveInt = Field(
        8, description="most requests that wait for shadows; they do not see more"
    )

    drift_window: PositiveInt = Field(
        2000, description="number of recent lists that drift metrics compare with the held-out lists"
    )

    max_connections: PositiveInt = Field(
        1000, description="most open connections of a worker; more get only health checks answered"
    )
    health_connections: PositiveInt = Field(
        16, description="connections beyond `max_connections` that wait for a health check; the oldest yields"
    )
    max_header_bytes: PositiveInt = Field(16_384, description="largest request line and headers together")
    max_headers: PositiveInt = Field(100, description="most headers of a request")
    max_pipelined: PositiveInt = Field(
        16, description="most requests sent ahead on a connection, before the one that is being answered"
    )
    header_timeout_s: PositiveFloat = Field(
        5.0, description="longest time from a request's first byte to the end of its headers"
    )
    body_timeout_s: PositiveFloat = Field(10.0, description="longest time from there to the end of its body")
    answer_timeout_s: PositiveFloat = Field(
        10.0, description="longest time for a caller to read what it is answered"
    )
    max_held_bytes: PositiveInt = Field(
        67_108_864, description="most bytes that a worker holds of bodies that are still being sent"
    )
    max_body_bytes: PositiveInt = Field(1_048_576, description="largest request body")
    max_faults: Annotated[int, Field(ge=1, le=MOST_FAULTS)] = Field(
        20, description="most faults told of a body that is not valid"
    )
    max_items: PositiveInt = Field(2000, description="most items in a request")
    max_top_n: PositiveInt = Field(
        200,
        description="most items of a request that are re-ranked, by its `top_n` or the model's slate length",
    )
    max_id_length: PositiveInt = Field(128, description="longest item or user id, in characters")
    max_features: PositiveInt = Field(64, description="most features of an item, a user or a request")
    max_feature_values: PositiveInt = Field(1024, description="longest list, or text, in one feature")
    max_values: PositiveInt = Field(
        20_000, description="most values of features in a request's items, those in lists counted each"
    )
    max_feature_bytes: PositiveInt = Field(16_384, description="most bytes of text in one feature")
    max_ignored_fields: PositiveInt = Field(
        20, description="most fields that an answer, and metrics of a model, name as ignored"
    )
    max_rules: PositiveInt = Field(
        32, description="most `at_most` and `at_least` rules in the constraints of a request"
    )
    max_pinned: PositiveInt = Field(50, description="most items that a request may pin")
    max_excluded: PositiveInt = Field(10_000, description="most ids that a request may exclude")
    max_groups: PositiveInt = Field(32, description="most groups of items that a request may bring")
    max_group_ids: PositiveInt = Field(10_000, description="most ids in these groups together")
    max_limited_groups: PositiveInt = Field(
        256, description="most groups that a request's rules may limit, each value of a feature counted"
    )
    max_constraint_states: PositiveInt = Field(
        2048, description="most states searched to tell whether a request's constraints can hold"
    )
    max_feedback_events: PositiveInt = Field(100, description="most events in one feedback request")
    max_reasoning_tokens: Annotated[int, Field(ge=0)] = Field(
        8, description="most reasoning tokens per position that a request may ask for"
    )
    max_lookahead: Annotated[int, Field(ge=0)] = Field(
        4, description="most other items per position that a request may have tried by lookahead"
    )
    max_trace_candidates: Annotated[int, Field(ge=0)] = Field(
        10, description="most leading candidates whose probabilities a trace may tell"
    )

    context_ttl_s: PositiveFloat = Field(
        30 * DAY_S, description="how long a user's context is kept after its last write"
    )
    recommendation_ttl_s: PositiveFloat = Field(DAY_S, description="how long feedback on a list is accepted")
    max_history: PositiveInt = Field(200, description="events kept per user, the newest ones")
    max_history_bytes: PositiveInt = Field(
        65_536, description="most bytes of these, as JSON; longer ids leave room for fewer"
    )
    max_profile_bytes: PositiveInt = Field(32_768, description="largest profile of a user, as JSON")
    max_event_bytes: PositiveInt = Field(
        4096, description="most bytes of the features that come with an event, as JSON"
    )
    max_event_ids: PositiveInt = Field(
        1000, description="ids of events remembered per user, the newest ones, so that each counts once"
    )
    max_listed_items: NonNegativeInt = Field(
        500,
        description="longest list whose items are remembered, in 2 bytes each, until its feedback; feedback "
        "on longer ones may name any item",
    )
    memory_max_users: PositiveInt = Field(
        10_000, description="in-process store: most users; the least recently used are dropped first"
    )
    memory_max_bytes: PositiveInt = Field(
        134_217_728, description="in-process store: most bytes of users; the least recently used go first"
    )
    memory_max_recommendations: PositiveInt = Field(
        100_000, description="in-process store: most recommendations awaiting feedback; oldest dropped first"
    )
    redis_url: str | None = Field(
        None,
        description="keep user contexts in this Redis instead of in the process: redis://, rediss:// (TLS), "
        "unix://, redis+sentinel://host,host/service or redis+cluster://host,host",
        repr=False,
    )
    redis_key_prefix: str = Field("rerank:", description="prefix of every Redis key")
    redis_socket_timeout_ms: PositiveFloat = Field(20.0, description="longest wait for a Redis answer")
    redis_connect_timeout_ms: PositiveFloat = Field(50.0, description="longest wait for a Redis connection")
    redis_max_connections: PositiveInt = Field(16, description="most connections to Redis, or to each node")
    redis_pool_wait_ms: PositiveFloat = Field(20.0, description="longest wait for a free pooled connection")
    redis_breaker_calls: PositiveInt = Field(20, description="the last calls, whose failures are counted")
    redis_breaker_error_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="share of `redis_breaker_calls` that failed at which Redis is not asked"
    )
    redis_breaker_reset_s: PositiveFloat = Field(
        0.5, description="how long Redis is then not asked, until a probe"
    )

    workers: PositiveInt = Field(
        1,
        description="processes on the port, each with its own queue and limits; more than one requires Redis",
    )
    stuck_after_s: PositiveFloat = Field(
        10.0,
        description="an event loop that has not turned for so long, or a model that has not finished a batch "
        "for twice as long, is stuck: its worker is replaced; /readyz fails after half of the latter",
    )
    keep_alive_s: PositiveInt = Field(75, description="how long idle connections are kept open")
    drain_s: NonNegativeFloat = Field(
        2.0, description="on SIGTERM, how long readiness fails before the port closes"
    )
    shutdown_timeout_s: PositiveInt = Field(20, description="how long open requests then have to finish")

    @field_validator("admin_port")
    @classmethod
    def _is_another_port(cls, admin_port: int | None, info: ValidationInfo) -> int | None:
        if admin_port is not None and info.data.get("uds") is None and admin_port == info.data.get("port"):
            raise ValueError("it is the port, too")
        return admin_port

    @field_validator("otel_endpoint")
    @classmethod
    def _tracing_is_installed(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            if not endpoint.startswith(("http://", "https://")):
                raise ValueError("expected an http or https address")
            try:
                import_module("opentelemetry.exporter.otlp.proto.http")
            except ImportError:
                raise ValueError("tracing is not installed: pip install 'eglr-reranker[otel]'") from None
        return endpoint

    @field_validator("tls_cert")
    @classmethod
    def _has_its_key(cls, cert: Path | None, info: ValidationInfo) -> Path | None:
        key: Path | None = info.data.get("tls_key")
        if cert is None:
            if key is not None:
                raise ValueError("expected one for tls_key")
            return None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot be used with its key: {error}") from None
        return cert

    @field_validator("tls_client_ca")
    @classmethod
    def _has_authorities(cls, authorities: Path | None, info: ValidationInfo) -> Path | None:
        if authorities is not None:
            if info.data.get("tls_cert", "") is None:  # absent if it is at fault itself
                raise ValueError("needs tls_cert")
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authorities)
            except OSError as error:
                raise ValueError(f"cannot be read: {error}") from None
        return authorities

    @field_validator("api_keys_file")
    @classmethod
    def _has_keys(cls, file: Path | None) -> Path | None:
        if file is not None:
            read_grants(file, None)
        return file

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, keys: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if keys is not None:
            if info.data.get("api_keys_file") is not None:
                raise ValueError("there is an api_keys_file, too; give one of the two")
            read_grants(None, keys.get_secret_value())
        return keys

    @property
    def serves_console(self) -> bool:
        return (self.uds is None and is_loopback(self.host)) if self.console is None else self.console

    @field_validator("console_lists")
    @classmethod
    def _has_lists(cls, file: Path | None) -> Path | None:
        if file is not None:
            import_module("service.api.console").read_lists(file)
        return file

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis(cls, url: str | None) -> str | None:
        if url is not None:
            import_module("service.context.address").parse_address(url)
        return url

    @field_validator("decision_log")
    @classmethod
    def _is_a_directory_or_a_redis(cls, place: str | None) -> str | None:
        if place == "":
            raise ValueError("expected a directory, or an address; to log nothing leave it unset")
        scheme, found, _ = (place or "").partition("://")
        if found and scheme not in STREAM_SCHEMES:
            known = ", ".join(f"{one}://" for one in STREAM_SCHEMES)
            raise ValueError(f"expected a directory, or an address with {known}, got {scheme}://")
        return place

    @model_validator(mode="after")
    def _decisions_can_be_logged(self) -> Self:
        if self.decision_log_users == "hashed":
            self.read_decision_log_key()
        least = (self.workers + 1) * self.decision_log_rotate_bytes
        if self.decision_log_max_bytes < least:
            raise ValueError(
                f"decision_log_max_bytes: expected at least {least}, a file of decision_log_rotate_bytes for "
                "each worker and one that is closed"
            )
        return self

    @model_validator(mode="after")
    def _exploration_can_be_judged(self) -> Self:
        if not self.exploration_share:
            for name in ("exploration_temperature", "exploration_stickiness"):
                if name in self.model_fields_set:
                    raise ValueError(f"{name}: nothing is sampled while exploration_share is 0")
        elif self.exploration_share < LEAST_SHARE:
            raise ValueError(
                f"exploration_share: expected 0, or at least {LEAST_SHARE:g}: the propensities of what is "
                "sampled more rarely are so small that nothing can be judged by them"
            )
        if self.exploration_temperature is not None and self.exploration_temperature < COLDEST:
            raise ValueError(
                f"exploration_temperature: expected at least {COLDEST:g}: below, all but the best items have "
                "propensities that are 0 in float32, and nothing else can be judged"
            )
        return self

    def read_decision_log_key(self) -> bytes:
        """Raises: ValueError: there is none, or more than one."""
        if (self.decision_log_key is None) is (self.decision_log_key_file is None):
            raise ValueError("decision_log_users: hashed ids need decision_log_key or decision_log_key_file")
        if self.decision_log_key is not None:
            key = self.decision_log_key.get_secret_value().encode()
        else:
            assert self.decision_log_key_file is not None
            try:
                key = self.decision_log_key_file.read_bytes().strip()
            except OSError as error:
                raise ValueError(f"decision_log_key_file: cannot be read: {error.strerror}") from None
        if len(key) < SHORTEST_KEY:
            raise ValueError(f"decision_log_key: expected {SHORTEST_KEY} bytes or more, got {len(key)}")
        return key

    @model_validator(mode="after")
    def _strangers_need_keys(self) -> Self:
        if self.api_keys_file is None and self.api_keys is None and not self.allow_anonymous:
            hosts = [] if self.uds is not None else [self.host]
            if self.admin_port is not None:
                hosts.append(self.admin_host)
            if outside := [host for host in hosts if not is_loopback(host)]:
                raise ValueError(f"host: others may reach {outside[0]}: set api_keys_file or allow_anonymous")
        return self

    @field_validator("workers")
    @classmethod
    def _workers_share_users(cls, workers: int, info: ValidationInfo) -> int:
        if workers > 1 and info.data.get("redis_url", "") is None:  # absent if it is at fault itself
            raise ValueError(
                f"{workers} workers would know different users and lose feedback: more than one needs "
                "redis_url, because contexts kept in a process are not shared"
            )
        return workers
