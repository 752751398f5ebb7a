"""What an asker should know before believing a number: in words, not in silent zeros."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from api.query.catalogue import METRICS, VALUES
from api.query.freshness import Freshness
from api.query.language import Question, matches
from api.query.plan import Plan
from api.query.written import Columns, instant
from db.saturation import INT8_MAX

_EXACT: Final = ("is", "is_not")


def warnings_about(
    question: Question, planned: Plan, columns: Columns, told: Mapping[str, Any], fresh: Freshness
) -> list[str]:
    """Sentences, none where all is as one would expect."""
    found = []
    if told["others"]:
        others = ", ".join(told["others"])
        found.append(f"Money is in {question.currency} alone; there is also some in {others}.")
    if fresh.halted:
        found.append(f"New events are not being read: {fresh.halted}")
    found += failing_rollups(fresh) + saturated_amounts(question, columns, told)
    found += unknown_values(question)
    if question.filtered and is_empty(question, columns):
        found.append("Nothing in this range matches the filters.")
    return found + out_of_reach(question, planned)


def failing_rollups(fresh: Freshness) -> list[str]:
    """Late events that cannot be added to the numbers of a range for now."""
    if fresh.failing_since is None:
        return []
    since = instant(fresh.failing_since)
    sentence = (
        f"Events of this range that arrived late, since {since}, cannot be added to these numbers "
        "yet; they will be once the operator has resolved the error."
    )
    return [sentence]


def saturated_amounts(question: Question, columns: Columns, told: Mapping[str, Any]) -> list[str]:
    """Sums of money, in rows or totals, that are larger than can be stored."""
    found = []
    for name in question.metrics:
        if METRICS[name].unit != "money" or not METRICS[name].adds_up:
            continue
        values = [*filter(None, columns[name]), told.get(f"total_{name}") or 0]
        if question.include.totals and question.totals_are_sums:
            values.append(sum(values))
        if max(values) >= INT8_MAX:
            found.append(
                f"The sum of {name} is larger than can be stored: the largest amount that can be "
                "is shown instead."
            )
    return found


def unknown_values(question: Question) -> list[str]:
    """Values of a closed set that a filter names and that are not in it."""
    found = []
    for match in matches(question.where):
        known = VALUES.get(match.dimension)
        if known is None or match.operator not in _EXACT:
            continue
        for value in match.values:
            if value not in known:
                there = f": there are {', '.join(known)}" if len(known) < 50 else ""
                found.append(f"No event has the {match.dimension} {value[:80]!r}{there}.")
    return found


def is_empty(question: Question, columns: Columns) -> bool:
    """Whether no row holds anything."""
    return not any(any(columns[name]) for name in question.metrics)


def out_of_reach(question: Question, planned: Plan) -> list[str]:
    """A range that begins before what is kept, or after now."""
    found = []
    now = datetime.now(UTC)
    kept = now - timedelta(days=question.raw_days)
    if planned.source == "raw" and question.period.start < kept - timedelta(days=1):
        found.append(
            f"This is answered from raw events, which are kept for {question.raw_days} days: "
            f"what lies before {kept.date()} is not counted."
        )
    if question.period.start > now:
        found.append("This range lies in the future.")
    return found
