"""What an answer says about itself."""

from datetime import datetime
from typing import Any

from api.query import written
from api.query.freshness import Freshness
from api.query.plan import Source


def meta(
    fresh: Freshness,
    end: datetime,
    source: Source,
    warnings: list[str],
    approximate: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """How fresh an answer is, whether its range is over and all of it in, and where it came from.

    Args:
        end: of the range asked about.
    """
    return {
        "fresh_as_of": written.instant(fresh.as_of) if fresh.as_of else None,
        "complete": fresh.as_of is not None and fresh.as_of >= end,
        "source": source,
        "approximate": approximate or {},
        "logic_version": fresh.logic_version,
        "last_reprocessed_at": (
            written.instant(fresh.last_reprocessed_at) if fresh.last_reprocessed_at else None
        ),
        "warnings": warnings,
        "truncated": False,
    }
