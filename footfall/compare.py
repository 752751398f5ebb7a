"""What was made against what came out: raw rows, rollups and the API's answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import psycopg

from footfall.simulate import Made, Tally

VISITOR_TOLERANCE: Final = (
    0.06  # four standard errors of 1.63 %, and never less than three visitors
)


@dataclass(frozen=True, slots=True)
class Line:
    """One number, four ways. None: not counted that way."""

    merchant: str
    metric: str
    made: int
    raw: int | None
    rollup: int | None
    api: int | None
    approximate: bool = False

    @property
    def agrees(self) -> bool:
        """Whether all ways agree: exactly, or within the sketch's error."""
        allowed = max(3, VISITOR_TOLERANCE * self.made) if self.approximate else 0
        found = [value for value in (self.rollup, self.api) if value is not None]
        exact = self.raw is None or self.raw == self.made
        return exact and all(abs(value - self.made) <= allowed for value in found)


_RAW: Final = """
SELECT count(*), count(*) FILTER (WHERE event = 'page_view'),
       count(*) FILTER (WHERE event = 'purchase' AND counted),
       coalesce(sum(value_minor) FILTER (WHERE event = 'purchase' AND counted), 0)::int8,
       coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0)::int8,
       count(DISTINCT (session, (ts AT TIME ZONE 'UTC')::date)), count(DISTINCT visitor)
  FROM events WHERE merchant_id = %(m)s AND NOT is_bot
"""
_ROLLUP: Final = """
SELECT coalesce(sum(events), 0)::int8,
       coalesce(sum(events) FILTER (WHERE event = 'page_view'), 0)::int8,
       coalesce(sum(orders), 0)::int8,
       coalesce(sum(value_minor) FILTER (WHERE event = 'purchase'), 0)::int8,
       coalesce(sum(units), 0)::int8,
       (SELECT coalesce(sum(sessions), 0)::int8 FROM session_summary_daily
         WHERE merchant_id = %(m)s),
       (SELECT visitor_estimate(count(*), sum(2.0 ^ -rank)) FROM
          (SELECT max(visitor_rank) AS rank FROM visitor_daily WHERE merchant_id = %(m)s
            GROUP BY visitor_register) AS registers)
  FROM traffic_daily WHERE merchant_id = %(m)s
"""
_METRICS: Final = ("events", "page_views", "orders", "revenue", "units", "sessions", "visitors")


def compare(shards: Sequence[str], url: str, keys: dict[int, str], tally: Tally) -> list[Line]:
    """Every metric of every merchant, and the totals of the log."""
    lines = _log_lines(shards, tally)
    for merchant, made in tally.merchants.items():
        raw, rollup = _of_tables(shards, merchant)
        api = _of_api(url, merchant, keys[merchant])
        wanted = _wanted(made)
        lines += [
            Line(str(merchant), name, wanted[at], raw[at], rollup[at], api[at], name == "visitors")
            for at, name in enumerate(_METRICS)
        ]
    return lines


def _wanted(made: Made) -> list[int]:
    return [
        made.counts["events"],
        made.counts["page_view"],
        len(made.orders),
        made.revenue_minor,
        made.counts["units"],
        len(made.sessions),
        len(made.visitors),
    ]


def _log_lines(shards: Sequence[str], tally: Tally) -> list[Line]:
    stored = rejects = repeated = messages = 0
    for dsn in shards:
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected_event), "
                "(SELECT count(*) FROM duplicate_event), "
                "(SELECT coalesce(sum(messages), 0)::int8 FROM ingest_batch)"
            ).fetchone()
        if row is not None:
            stored, rejects, repeated, messages = (
                was + now
                for was, now in zip((stored, rejects, repeated, messages), row, strict=True)
            )
    return [
        Line("all", "messages in the log", tally.messages, messages, None, None),
        Line("all", "events stored", tally.stored, stored, None, None),
        Line("all", "broken events kept", tally.broken, rejects, None, None),
        Line("all", "retries left out", tally.retries, repeated, None, None),
    ]


def _of_tables(shards: Sequence[str], merchant: int) -> tuple[list[int], list[int]]:
    """A merchant lives in one shard: the others add nothing."""
    raws, rollups = [], []
    for dsn in shards:
        with psycopg.connect(dsn) as connection:
            raws.append(connection.execute(_RAW, {"m": merchant}).fetchone())
            rollups.append(connection.execute(_ROLLUP, {"m": merchant}).fetchone())
    return _summed(raws), _summed(rollups)


def _summed(rows: list[Any]) -> list[int]:
    return [sum(int(row[at]) for row in rows) for at in range(len(_METRICS))]


def _of_api(url: str, merchant: int, key: str) -> list[int]:
    answer = httpx.post(
        f"{url}/v1/query",
        json={"metrics": list(_METRICS), "date_range": "7d", "include": {"totals": True}},
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )
    answer.raise_for_status()
    totals = answer.json()["totals"]
    money = round(float(totals["revenue"]["amount"]) * 100)
    return [money if name == "revenue" else totals[name] for name in _METRICS]
