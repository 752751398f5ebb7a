"""What repeats what: the rule, without a table."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ingester.dedupe import repeats_among

NOON = datetime(2026, 9, 9, 12, tzinfo=UTC)
WINDOW = timedelta(minutes=15)


def repeats(*sent: tuple[str, int]) -> list[int]:
    """Places of the repeats among copies of one event: by whom, and in which minute."""
    rows = pl.DataFrame(
        {
            "merchant_id": 1,
            "ts": NOON,
            "event_id": "e-1",
            "from_public_key": [by == "page" for by, _ in sent],
            "logged_at": [NOON + timedelta(minutes=minute) for _, minute in sent],
        }
    )
    found: list[int] = repeats_among(rows, WINDOW).tolist()
    return found


@pytest.mark.parametrize(
    ("sent", "repeated"),
    [
        pytest.param([("server", 0), ("server", 1)], [1], id="a server's retry"),
        pytest.param([("page", 0), ("page", 1)], [1], id="a page's retry"),
        pytest.param([("server", 0), ("page", 1)], [1], id="a page repeats its server"),
        pytest.param([("page", 0), ("server", 1)], [], id="no page makes a server's a repeat"),
        pytest.param(
            [("page", 0), ("server", 1), ("page", 2), ("server", 3)], [2, 3], id="each its own"
        ),
        pytest.param([("server", 0), ("server", 16)], [], id="after the window it counts again"),
        pytest.param([("server", 0), ("page", 14), ("page", 16)], [1], id="of what counted last"),
        pytest.param([("page", 0), ("server", 14), ("page", 28)], [2], id="a server's is newer"),
    ],
)
def test_who_repeats_whom(sent: list[tuple[str, int]], repeated: list[int]) -> None:
    assert repeats(*sent) == repeated
