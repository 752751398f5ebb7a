"""What an asker should know before believing a number: in words, not in silent zeros."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from api.query.catalogue import VALUES
from api.query.freshness import Freshness
from api.query.language import Question, matches
from api.query.plan import Plan
from api.query.written import Columns

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
    found += unknown_values(question)
    if question.filtered and is_empty(question, columns):
        found.append("Nothing in this range matches the filters.")
    return found + out_of_reach(question, planned)


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
