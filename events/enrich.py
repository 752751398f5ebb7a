"""What an event gains from lookups: each distinct string is looked up once, then joined back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote_plus

import maxminddb
import polars as pl

from events.agents import BOT, UNKNOWN, Agent, Agents
from events.identity import VisitorHash
from events.places import country_of
from events.traffic_source import CLICK_IDS, Causes, origin

UTM: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
MAX_UTM: Final = 256


@dataclass(slots=True)
class Enrichment:
    """The visitor hash, lookup tables and bounded caches; the same answers, warm or cold."""

    visitor_hash: VisitorHash
    agents: Agents = field(default_factory=Agents)
    countries: maxminddb.Reader | None = None

    @classmethod
    def open(cls, visitor_hash: VisitorHash, country_file: Path | None = None) -> "Enrichment":
        """With a MaxMind-format country file, or without one."""
        reader = maxminddb.open_database(country_file) if country_file else None
        return cls(visitor_hash, countries=reader)


def split_url(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `page`, `own_host` and `query` from `url`. Splitting costs a fraction of a regex."""
    whole = pl.col("url").str.splitn("#", 2).struct.field("field_0")
    parts = whole.str.splitn("?", 2)
    frame = frame.with_columns(
        parts.struct.field("field_0").alias("_base"), parts.struct.field("field_1").alias("query")
    )
    pieces = pl.col("_base").str.splitn("/", 4)
    absolute = pl.col("_base").str.contains("://", literal=True)
    return frame.with_columns(
        pl.when(absolute)
        .then("/" + pieces.struct.field("field_3").fill_null(""))
        .when(pl.col("_base").str.starts_with("/"))
        .then(pl.col("_base"))
        .when(pl.col("_base").is_not_null())
        .then("/" + pl.col("_base"))
        .alias("page"),
        pl.when(absolute).then(host(pieces.struct.field("field_2"))).alias("own_host"),
    ).drop("_base")


def host(authority: pl.Expr) -> pl.Expr:
    """The lower-case host of an authority: without user, port and a leading www."""
    after_user = authority.str.split("@").list.last()
    return after_user.str.splitn(":", 2).struct.field("field_0").str.to_lowercase()


def campaign_parameters(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the utm columns and `click_id` (the parameter's name) from `query`."""
    tagged = frame.select("query").drop_nulls().unique()
    wanted = pl.col("query").str.contains_any(["utm_", *(f"{name}=" for name in CLICK_IDS)])
    tagged = tagged.filter(wanted)
    if tagged.is_empty():
        empty = [pl.lit(None, pl.String).alias(name) for name in (*UTM, "click_id")]
        return frame.with_columns(empty)
    found = tagged.with_columns(
        *(_parameter(name).alias(name) for name in UTM),
        pl.coalesce(
            pl.when(pl.col("query").str.contains(f"(?:^|&){name}=[^&]")).then(pl.lit(name))
            for name in CLICK_IDS
        ).alias("click_id"),
    )
    escaped = pl.any_horizontal(pl.col(name).str.contains_any(["%", "+"]) for name in UTM)
    if found.select(escaped.any()).item():
        found = found.with_columns(
            pl.col(name).map_elements(_unescaped, return_dtype=pl.String) for name in UTM
        )
    return frame.join(found, on="query", how="left", maintain_order="left")


def _parameter(name: str) -> pl.Expr:
    value = pl.col("query").str.extract(f"(?:^|&){name}=([^&]*)")
    return pl.when(value != "").then(value.str.slice(0, MAX_UTM))


def _unescaped(value: str) -> str:
    """Percent-decoded; what is not UTF-8 becomes replacement characters, a NUL nothing."""
    return unquote_plus(value).replace("\0", "")[:MAX_UTM]


def traffic_source(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `source` and `channel`, decided once for each distinct combination of their causes."""
    frame = frame.with_columns(
        host(pl.col("referrer").str.splitn("/", 4).struct.field("field_2")).alias("referrer_host")
    )
    causes = list(Causes._fields)
    combinations = frame.select(causes).unique()
    origins = [origin(Causes(*row)) for row in combinations.iter_rows()]
    decided = combinations.with_columns(
        pl.Series("source", [each.source for each in origins], pl.String),
        pl.Series("channel", [each.channel for each in origins], pl.String),
    )
    return frame.join(decided, on=causes, how="left", nulls_equal=True, maintain_order="left")


def user_agents(frame: pl.DataFrame, agents: Agents) -> pl.DataFrame:
    """Add `device`, `browser`, `os` and `is_bot`.

    An event of a page (it has a url and came by a public key) without a user agent is a bot's; a
    server's is not.
    """
    strings = frame.get_column("user_agent").drop_nulls().unique()
    known = _agent_frame(strings, agents.of(strings.to_list()))
    frame = frame.join(known, on="user_agent", how="left", maintain_order="left")
    blank = pl.col("user_agent").str.strip_chars().fill_null("") == ""
    headless = blank & pl.col("url").is_not_null() & pl.col("from_public_key")
    device = pl.when(headless).then(pl.lit(BOT.device)).otherwise(pl.col("device"))
    return frame.with_columns(device.fill_null(UNKNOWN.device).alias("device")).with_columns(
        (pl.col("device") == BOT.device).alias("is_bot")
    )


def _agent_frame(strings: pl.Series, known: list[Agent]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            strings.alias("user_agent"),
            pl.Series("device", [agent.device for agent in known], pl.String),
            pl.Series("browser", [agent.browser for agent in known], pl.String),
            pl.Series("os", [agent.os for agent in known], pl.String),
        ]
    )


def countries(frame: pl.DataFrame, reader: maxminddb.Reader | None) -> pl.DataFrame:
    """Settle `country`: what the event says, else what the ip says. The ip goes no further."""
    frame = frame.with_columns(pl.col("country").str.to_uppercase())
    if reader is None:
        return frame
    addresses = frame.filter(pl.col("country").is_null()).get_column("ip").drop_nulls().unique()
    found = pl.DataFrame(
        [
            addresses.alias("ip"),
            pl.Series("_of_ip", [country_of(reader, ip) for ip in addresses.to_list()], pl.String),
        ]
    )
    joined = frame.join(found, on="ip", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("country", "_of_ip").alias("country")).drop("_of_ip")
