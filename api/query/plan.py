"""Which rows answer a question: the narrowest rollup that can, raw rows where none can."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

from api.query.catalogue import DIMENSIONS, METRICS, Group
from api.query.language import Match, Question, matches
from api.query.periods import Period
from db.rollups import BY_NAME

Source = Literal["daily", "hourly", "raw"]
_COARSE: Final = frozenset({"day", "week", "month", None})


@dataclass(frozen=True, slots=True)
class Reading:
    """One group of metrics and the relation that answers it."""

    group: Group
    relation: str
    source: Source


@dataclass(frozen=True, slots=True)
class Plan:
    """Which relation answers each group of metrics."""

    readings: tuple[Reading, ...]

    @property
    def is_raw(self) -> bool:
        """Whether no rollup takes part."""
        return all(reading.source == "raw" for reading in self.readings)

    @property
    def rollups(self) -> frozenset[str]:
        """Names of the rollups that take part, and of those that they are made of."""
        read = {r.relation for r in self.readings} & BY_NAME.keys()
        return frozenset(read | ({BY_NAME[name].source for name in read} & BY_NAME.keys()))

    @property
    def source(self) -> Source:
        """The finest source that the answer rests on."""
        sources = {reading.source for reading in self.readings}
        return "raw" if "raw" in sources else "hourly" if "hourly" in sources else "daily"


def plan(question: Question) -> Plan:
    """Choose a relation for each group of metrics that the question names."""
    groups = sorted({METRICS[name].group for name in question.metrics})
    choose = {"event": _event_reading, "visitors": _visitor_reading, "session": _session_reading}
    return Plan(tuple(choose[group](question) for group in groups))


def wants_bots(question: Question) -> bool:
    """Whether a filter asks for bots by name; they are left out otherwise."""
    return any(
        match.dimension == "device" and match.operator == "is" and "bot" in match.values
        for match in matches(question.where)
        if isinstance(match, Match)
    )


def granularity(question: Question) -> Source:
    """The coarsest buckets whose edges are the question's: UTC days, UTC hours, or none."""
    return _granularity(question.period, question.interval)


@lru_cache(256)  # dashboards ask for the same few ranges all day
def _granularity(period: Period, interval: str | None) -> Source:
    edges = [period.start, period.end]
    if interval in _COARSE:
        if interval is not None:
            edges += period.buckets(interval)
    elif interval != "hour" or not period.is_utc("hour"):
        return "raw"
    if interval != "hour" and all(_is_multiple(at, timedelta(days=1)) for at in edges):
        return "daily"
    return "hourly" if all(_is_multiple(at, timedelta(hours=1)) for at in edges) else "raw"


def _is_multiple(at: datetime, length: timedelta) -> bool:
    return at.timestamp() % length.total_seconds() == 0


def _event_reading(question: Question) -> Reading:
    used = {DIMENSIONS[name] for name in (*question.dimensions, *question.filtered)}
    product = "product_id" in used
    grain = granularity(question)
    if grain != "raw":
        for name in ("product",) if product else ("traffic", "place", "source", "device", "page"):
            rollup = BY_NAME[f"{name}_{grain}"]
            if used <= set(rollup.dimensions) and (name == "device" or not wants_bots(question)):
                return Reading("event", rollup.name, grain)
    return Reading("event", "event_items" if product else "events", "raw")


def _visitor_reading(question: Question) -> Reading:
    grain = granularity(question)
    if question.dimensions or question.filtered or grain == "raw":
        return Reading("visitors", "events", "raw")
    return Reading("visitors", f"visitor_{grain}", grain)


def _session_reading(question: Question) -> Reading:
    """Sessions stand in time at their first event; the summary knows it to the quarter hour."""
    used = set(question.dimensions) | question.filtered
    edges = (question.period.start, question.period.end)
    quarters = all(_is_multiple(at, timedelta(minutes=15)) for at in edges)
    summary = BY_NAME["session_summary_daily"]
    if wants_bots(question):
        return Reading("session", "events", "raw")
    if quarters and question.interval != "minute" and used <= set(summary.dimensions):
        return Reading("session", summary.name, "daily")
    return Reading("session", "session_daily", "daily")
