"""The environment, read once, at the rim, into frozen settings."""

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from api.settings import ApiSettings, RateLimits
from events.limits import Limits
from ingester.settings import IngestSettings
from reprocess.settings import ReprocessSettings

DEFAULT_TOPIC: Final = "footfall.events"
_OPTION: Final = "FOOTFALL_KAFKA_OPTION_"


class EnvironmentMissingError(Exception):
    """A variable that a command needs is not set, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What FOOTFALL_* says."""

    bootstrap: str | None
    shards: tuple[str, ...]
    read_shards: tuple[str, ...]
    topic: str
    partitions: int
    kafka_options: dict[str, str]
    data_dir: Path | None
    api_host: str
    api_port: int
    telemetry_host: str
    telemetry_port: int | None
    instance_id: str | None
    max_age_days: int
    country_file: Path | None
    trusted_proxies: tuple[str, ...]
    requests_per_minute: int
    visitor_requests_per_minute: int
    public_requests_per_minute: int
    address_requests_per_minute: int
    drain_seconds: int
    cache_seconds: float
    raw_rows: int
    slice_messages: int
    visitor_hash_key: bytes | None = field(repr=False)

    @classmethod
    def read(cls, given: Mapping[str, str] = os.environ) -> "Environment":
        """From a mapping of variables.

        Raises:
            EnvironmentMissingError: one of them is no number.
        """
        options = {
            name.removeprefix(_OPTION).lower().replace("_", "."): value
            for name, value in given.items()
            if name.startswith(_OPTION)
        }
        data_dir, country = given.get("FOOTFALL_DATA_DIR"), given.get("FOOTFALL_COUNTRY_FILE")
        return cls(
            bootstrap=given.get("FOOTFALL_KAFKA_BOOTSTRAP"),
            shards=tuple(given.get("FOOTFALL_SHARDS", "").split()),
            read_shards=tuple(given.get("FOOTFALL_READ_SHARDS", "").split()),
            topic=given.get("FOOTFALL_TOPIC", DEFAULT_TOPIC),
            partitions=_number(given, "FOOTFALL_PARTITIONS", 8),
            kafka_options=options,
            data_dir=Path(data_dir) if data_dir else None,
            api_host=given.get("FOOTFALL_API_HOST", "127.0.0.1"),
            api_port=_number(given, "FOOTFALL_API_PORT", 8080),
            telemetry_host=given.get("FOOTFALL_TELEMETRY_HOST", "127.0.0.1"),
            telemetry_port=_number(given, "FOOTFALL_TELEMETRY_PORT", 0) or None,
            instance_id=given.get("FOOTFALL_INSTANCE_ID") or None,
            max_age_days=_number(given, "FOOTFALL_MAX_AGE_DAYS", 365),
            country_file=Path(country) if country else None,
            trusted_proxies=tuple(given.get("FOOTFALL_TRUSTED_PROXIES", "").split()),
            requests_per_minute=_number(given, "FOOTFALL_REQUESTS_PER_MINUTE", 6000),
            visitor_requests_per_minute=_number(given, "FOOTFALL_VISITOR_REQUESTS_PER_MINUTE", 600),
            public_requests_per_minute=_number(
                given, "FOOTFALL_PUBLIC_REQUESTS_PER_MINUTE", 60_000
            ),
            address_requests_per_minute=_number(
                given, "FOOTFALL_ADDRESS_REQUESTS_PER_MINUTE", 60_000
            ),
            drain_seconds=_number(given, "FOOTFALL_DRAIN_S", 0),
            cache_seconds=_number(given, "FOOTFALL_CACHE_MS", 2000) / 1000,
            raw_rows=_number(given, "FOOTFALL_RAW_ROWS", 20_000_000),
            slice_messages=_number(given, "FOOTFALL_SLICE_MESSAGES", 250_000),
            visitor_hash_key=_key(given, "FOOTFALL_VISITOR_HASH_KEY"),
        )

    def need_shards(self) -> tuple[str, ...]:
        """The shards' DSNs.

        Raises:
            EnvironmentMissingError: there are none.
        """
        if not self.shards:
            raise EnvironmentMissingError(
                "Set FOOTFALL_SHARDS to the databases' DSNs, separated by spaces. "
                "`footfall stack` starts one for trying things out and prints its address."
            )
        return self.shards

    def readers(self) -> tuple[str, ...]:
        """The DSNs that answer questions: the shards' replicas where they are named.

        Raises:
            EnvironmentMissingError: there are no shards, or not one replica for each.
        """
        shards = self.need_shards()
        if self.read_shards and len(self.read_shards) != len(shards):
            raise EnvironmentMissingError(
                f"FOOTFALL_READ_SHARDS names {len(self.read_shards)} databases and "
                f"FOOTFALL_SHARDS {len(shards)}: name one for each shard, in the same order."
            )
        return self.read_shards or shards

    def need_bootstrap(self) -> str:
        """The brokers' addresses.

        Raises:
            EnvironmentMissingError: there are none.
        """
        if not self.bootstrap:
            raise EnvironmentMissingError(
                "Set FOOTFALL_KAFKA_BOOTSTRAP to the brokers' host:port list. "
                "`footfall stack` starts one for trying things out and prints its address."
            )
        return self.bootstrap

    def ingest_settings(self) -> IngestSettings:
        """What an ingester needs."""
        return IngestSettings(
            bootstrap=self.need_bootstrap(),
            topic=self.topic,
            shards=self.need_shards(),
            kafka_options=self.kafka_options,
            limits=Limits(max_age_days=self.max_age_days),
            country_file=self.country_file,
            instance_id=self.instance_id,
        )

    def reprocess_settings(self, rate: float | None, parallel: int) -> ReprocessSettings:
        """What a replay needs: the same limits as the ingester's, or verdicts would differ."""
        return ReprocessSettings(
            bootstrap=self.need_bootstrap(),
            topic=self.topic,
            shards=self.need_shards(),
            kafka_options=self.kafka_options,
            limits=Limits(max_age_days=self.max_age_days),
            country_file=self.country_file,
            slice_messages=self.slice_messages,
            parallel=parallel,
            messages_per_s=rate,
        )

    @property
    def spool_root(self) -> Path:
        """Below which the API of each port has its spools."""
        return (self.data_dir or Path.home() / ".local" / "state" / "footfall") / "spool"

    def api_settings(self) -> ApiSettings:
        """What the API needs."""
        return ApiSettings(
            bootstrap=self.need_bootstrap(),
            topic=self.topic,
            shards=self.need_shards(),
            country_file=self.country_file,
            read_shards=self.readers(),
            spool_dir=self.spool_root / str(self.api_port),
            kafka_options=self.kafka_options,
            limits=Limits(max_age_days=self.max_age_days),
            rate_limits=RateLimits(
                of_key=self.requests_per_minute,
                of_public_visitor=self.visitor_requests_per_minute,
                of_public_key=self.public_requests_per_minute,
                of_address=self.address_requests_per_minute,
            ),
            cache_seconds=self.cache_seconds,
            raw_rows=self.raw_rows,
        )


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise EnvironmentMissingError(f"{name} must be a whole number, not {text!r}") from error


def _key(given: Mapping[str, str], name: str) -> bytes | None:
    text = given.get(name)
    if not text:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise EnvironmentMissingError(f"{name} must be 64 hexadecimal digits") from error


def configure_logging() -> None:
    """Structured lines to stderr: JSON for machines, colours where a person watches."""
    person = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
