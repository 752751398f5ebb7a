"""Whatever is asked, the answer is numbers or a sentence that says what to change."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service import Service

TIMES = st.sampled_from(
    [
        *("0001-01-01", "9999-12-31", "1970-01-01", "9000-12-31", "2026-02-30", "2026-11-01", ""),
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-01T00:00:00Z"),
        *("2026-11-26T12:00:00+14:00", "1e9", "\0", "\uff12\uff10-11-01", "today", "-0001-01-01"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["\0", "a\0b", "'; DROP TABLE events", "%", "\\", "x" * 3_000, "🫖", "\u2028"]),
)
NUMBERS = st.one_of(st.integers(), st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30]))
ZONES = st.sampled_from(
    ["UTC", "Asia/Kathmandu", "Pacific/Apia", "Antarctica/Troll", "../etc/passwd", "", "\0", "Mars"]
)
FILTERS = st.recursive(
    st.one_of(
        st.tuples(
            st.sampled_from(["is", "is_not", "contains", "contains_not", "matches_prefix", "no"]),
            st.sampled_from(["page", "country", "event", "channel", "visitor", "\0"]),
            st.one_of(TEXTS, st.lists(TEXTS, max_size=3), NUMBERS, st.none()),
        ).map(list),
        TEXTS,
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, max_size=3)).map(list),
        st.tuples(st.just("not"), inner).map(list),
    ),
    max_leaves=6,
)
QUERIES = st.fixed_dictionaries(
    {
        "metrics": st.lists(
            st.sampled_from(["events", "visitors", "revenue", "sessions", "bounce_rate", "no", ""]),
            max_size=3,
        )
    },
    optional={
        "date_range": st.one_of(TIMES, st.lists(TIMES, min_size=1, max_size=3)),
        "dimensions": st.lists(
            st.sampled_from(
                [
                    "time:minute",
                    "time:hour",
                    "time:day",
                    "time:month",
                    "page",
                    "product",
                    "no",
                    "\0",
                ]
            ),
            max_size=3,
        ),
        "filters": st.lists(FILTERS, max_size=3),
        "timezone": ZONES,
        "currency": TEXTS,
        "order_by": st.lists(
            st.tuples(TEXTS, st.sampled_from(["asc", "desc", "up"])).map(list), max_size=2
        ),
        "limit": NUMBERS,
        "cursor": st.one_of(TEXTS, st.binary(max_size=40).map(lambda b: b.hex())),
        "include": st.fixed_dictionaries(
            {}, optional={"comparison": st.just("previous_period"), "totals": st.booleans()}
        ),
    },
)


def well_answered(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["detail"], answer.text


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(query=QUERIES)
def test_no_query_makes_it_fall_over(service: Service, shop: int, query: dict[str, Any]) -> None:
    answer = service.call("POST", "/v1/query", key=service.key(shop), json=query)
    well_answered(answer)
    if answer.status_code == 200:
        assert len(answer.json()["rows"]) <= 10_001


@pytest.mark.parametrize("start", ["0001-01-01", "9999-12-31", "1970-01-01", "9000-12-31"])
@pytest.mark.parametrize("interval", ["minute", "hour", "day", "week", "month"])
def test_the_ends_of_the_calendar_are_refused_or_answered(
    service: Service, shop: int, start: str, interval: str
) -> None:
    year = int(start[:4])
    for end in (start, f"{year}-12-31", f"{min(year + 1, 9999):04}-01-01"):
        path = f"/v1/merchants/{shop}/timeseries?metrics=events&interval={interval}"
        for more in ("", "&compare=previous_period", "&timezone=Pacific/Kiritimati"):
            asked = f"{path}&from={start}&to={end}{more}"
            well_answered(service.call("GET", asked, key=service.key(shop)))


@pytest.mark.parametrize(
    "path",
    [
        "events/%00",
        "events/%ff%fe",
        "events/a%ed%a0%80b",
        "events/x?timestamp=0001-01-01T00:00:00Z",
        "events/x?timestamp=9999-12-31T23:59:59Z",
        "events/x?timestamp=99999999999999999999999999",
        "events/x?timestamp=-1",
        "events/x?from=0001-01-01&to=0001-01-02",
        "breakdown?dimension=page&cursor=%ff",
        "breakdown?dimension=page&filters=%5B%5B%22is%22,%22page%22,%22%ff%22%5D%5D",
        "breakdown?dimension=page&filters=%5B%5B%22is%22,%22page%22,%22%5Cud83c%22%5D%5D",
        "breakdown?dimension=page&order_by=%00",
        "breakdown?dimension=page&limit=99999999999999999999",
        "breakdown?dimension=page&timezone=%00",
        "timeseries?from=2026-11-01&to=2026-11-02&interval=minute&timezone=..%2F..%2Fetc",
        "summary?date_range=%ed%a0%80",
        "realtime?x=%ff",
    ],
)
def test_no_address_makes_it_fall_over(service: Service, shop: int, path: str) -> None:
    well_answered(service.call("GET", f"/v1/merchants/{shop}/{path}", key=service.key(shop)))


@pytest.mark.parametrize("text", ["\0", "\ud83c", "x" * 201, "", "  "])
def test_names_that_a_database_cannot_hold_are_refused(
    service: Service, shop: int, text: str
) -> None:
    key = service.admin
    for path, body in (
        ("/v1/merchants", {"name": text}),
        ("/v1/merchants", {"name": "a shop", "timezone": text}),
        ("/v1/merchants", {"name": "a shop", "currency": text}),
        (f"/v1/merchants/{shop}/keys", {"scopes": [text]}),
        (f"/v1/merchants/{shop}/keys", {"scopes": ["stats:read"], "expires_at": text}),
    ):
        content = json.dumps(body).encode()
        answer = service.call("POST", path, key=key, content=content)
        well_answered(answer)
        assert answer.status_code == 400, (path, body, answer.text)


def test_a_funnel_and_a_retention_survive_the_ends_of_the_calendar(
    service: Service, shop: int
) -> None:
    steps = [{"event": "page_view"}, {"event": "purchase"}]
    for dates in (["0001-01-01", "0001-02-01"], ["9999-11-01", "9999-12-31"], ["\0", "x"]):
        for path, body in (
            ("funnel", {"steps": steps, "date_range": dates}),
            ("retention", {"date_range": dates}),
        ):
            answer = service.call(
                "POST", f"/v1/merchants/{shop}/{path}", key=service.key(shop), json=body
            )
            well_answered(answer)
            assert answer.status_code == 400, answer.text
