"""Every setting of the service, once: its name, default, bounds and meaning.

Read from `RERANK_*` environment variables; the command line of `__main__` is generated from the same
fields and goes before them. Knows nothing of what uses a setting.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.settings import Decoding, Provider, SessionSettings

ENV_PREFIX = "RERANK_"
DAY_S = 24 * 3600.0


class Settings(BaseSettings):
    """Immutable and validated once, at start-up."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    bundle: Path = Field(description="directory of the bundle to serve")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="port to listen on; 0 picks one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_ids: Literal["none", "hashed"] = Field("none", description="ids of users and items in debug messages")
    log_ids_key: SecretStr | None = Field(
        None, description="key of those hashes; a new random one for each process if absent"
    )

    otel_endpoint: str | None = Field(
        None, description="OTLP/HTTP collector of traces, such as http://127.0.0.1:4318; no tracing if absent"
    )
    otel_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="share of requests traced, of those whose caller has not decided it"
    )
    otel_service_name: str = Field("eglr-reranker", description="the service's name in traces")

    provider: Provider = Field(SessionSettings.provider, description="ONNX Runtime execution provider")
    decoding: Decoding = Field(
        SessionSettings.decoding,
        description="how slates are written: by one graph call, a graph call a micro-step, or compiled code; "
        "auto is native where the bundle allows it, else graph, and step on cuda",
    )
    require_provider: bool = Field(
        SessionSettings.require_provider, description="refuse to start when the provider is not active"
    )
    intra_op_threads: PositiveInt | None = Field(
        None,
        description="threads inside one ONNX Runtime operator; if absent, the cores this process may use, by "
        "its container's quota, over `workers`",
    )
    keep_freed_mib: NonNegativeInt = Field(
        SessionSettings.keep_freed_mib,
        description="most freed memory that is kept for the next batch, in MiB; 0 leaves it to the system",
    )
    max_batch_size: PositiveInt = Field(16, description="most requests in one inference")
    inline_ms: NonNegativeFloat = Field(
        5.0, description="a batch expected to take less runs on the event loop, a longer one in a thread"
    )
    max_concurrency: PositiveInt = Field(
        64, description="most requests queued or in inference; more are overload"
    )
    default_deadline_ms: PositiveFloat = Field(1000.0, description="deadline of requests that name none")

    drift_window: PositiveInt = Field(
        2000, description="lists that are compared with the held-out ones, for the drift metrics"
    )

    max_body_bytes: PositiveInt = Field(4_194_304, description="largest request body")
    max_items: PositiveInt = Field(2000, description="most items in a request")
    max_id_length: PositiveInt = Field(128, description="longest item or user id, in characters")
    max_features: PositiveInt = Field(64, description="most features of an item, a user or a request")
    max_feature_values: PositiveInt = Field(1024, description="longest list, or text, in one feature")
    max_feedback_events: PositiveInt = Field(100, description="most events in one feedback request")
    max_reasoning_tokens: Annotated[int, Field(ge=0)] = Field(
        8, description="most reasoning tokens per position a request may ask for"
    )

    context_ttl_s: PositiveFloat = Field(
        30 * DAY_S, description="a user's context is kept since its last write"
    )
    recommendation_ttl_s: PositiveFloat = Field(DAY_S, description="time in which feedback is accepted")
    max_history: PositiveInt = Field(200, description="events kept of a user, newest first to stay")
    memory_max_users: PositiveInt = Field(
        10_000, description="in-process store: most users, least recently used go first"
    )
    memory_max_recommendations: PositiveInt = Field(
        100_000, description="in-process store: most recommendations that await feedback, oldest go first"
    )
    redis_url: str | None = Field(
        None, description="keep user contexts in this Redis instead of in the process", repr=False
    )
    redis_key_prefix: str = Field("rerank:", description="what every Redis key begins with")
    redis_socket_timeout_ms: PositiveFloat = Field(20.0, description="longest wait for a Redis answer")
    redis_connect_timeout_ms: PositiveFloat = Field(50.0, description="longest wait for a Redis connection")
    redis_max_connections: PositiveInt = Field(16, description="connections in the Redis pool")
    redis_pool_wait_ms: PositiveFloat = Field(20.0, description="longest wait for a free pooled connection")
    redis_breaker_failures: PositiveInt = Field(5, description="failures in a row before Redis is left alone")
    redis_breaker_reset_s: PositiveFloat = Field(1.0, description="time Redis is left alone before a probe")

    workers: PositiveInt = Field(
        1, description="processes on the port, each with its own queue and limits; more than one needs Redis"
    )
    keep_alive_s: PositiveInt = Field(75, description="idle connections are kept open this long")
    drain_s: NonNegativeFloat = Field(
        2.0, description="on SIGTERM, time of failing readiness before the port closes"
    )
    shutdown_timeout_s: PositiveInt = Field(20, description="time open requests have to finish after that")

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

    @field_validator("workers")
    @classmethod
    def _workers_share_users(cls, workers: int, info: ValidationInfo) -> int:
        if workers > 1 and info.data.get("redis_url") is None:
            raise ValueError(
                f"{workers} workers would each know other users, and lose feedback: more than one needs "
                "redis_url, for contexts kept in the process are not shared"
            )
        return workers
