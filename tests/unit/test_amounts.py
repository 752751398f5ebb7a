"""No amount, line or sum of lines that is let in exceeds the limit, or what an integer can hold."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.check import MAX_ITEMS, MAX_QUANTITY, Rejection, check
from events.enrich import Enrichment
from events.limits import Limits
from events.money import EXPONENTS, MAX_AMOUNT
from events.reasons import Reason
from events.transform import process
from tests.keys import VISITOR_HASH
from tests.unit.messages import NOW_MS, batch, raw

LIMITS = Limits()
ENRICHMENT = Enrichment(VISITOR_HASH)
INT4, INT8 = 2**31 - 1, 2**63 - 1
Verdict = tuple[str, str | None] | None


def verdict(**fields: Any) -> Verdict:
    """Reason and field, or None where the event is accepted; columns and rows must agree."""
    value = raw(**{"currency": "CLF", **fields})
    found = check(value, now_ms=NOW_MS, limits=LIMITS)
    wanted = (str(found.reason), found.field) if isinstance(found, Rejection) else None
    processed = process(batch([raw(), value]), limits=LIMITS, enrichment=ENRICHMENT)
    refused = processed.rejects.select("reason", "field").rows()
    assert refused == ([] if wanted is None else [wanted]), fields
    return wanted


def item(price: Any, quantity: int | None = None) -> dict[str, Any]:
    """One product."""
    whole = {"product_id": "p", "price": price, "quantity": quantity}
    return {name: value for name, value in whole.items() if value is not None}


OUT = str(Reason.OUT_OF_RANGE)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"value": "1000000000"}, None),
        ({"value": "1000000000.0000"}, None),
        ({"value": 1_000_000_000}, None),
        ({"value": 1e9}, None),
        ({"value": "01000000000"}, None),
        ({"value": "1000000000.0001"}, (OUT, "value")),
        ({"value": "1000000001"}, (OUT, "value")),
        ({"value": 1_000_000_001}, (OUT, "value")),
        ({"value": "9" * 400}, (OUT, "value")),
        ({"items": [item("1000000000")]}, None),
        ({"items": [item("1000000000.0001")]}, (OUT, "items[0].price")),
        ({"items": [item("1"), item("1000000001")]}, (OUT, "items[1].price")),
        ({"items": [item("1000", MAX_QUANTITY)]}, None),
        ({"items": [item("1000.0001", MAX_QUANTITY)]}, (OUT, "items[0]")),
        ({"items": [item("1000000000", 2)]}, (OUT, "items[0]")),
        ({"items": [item("1000000000", MAX_QUANTITY)]}, (OUT, "items[0]")),
        ({"items": [item("333333333.3333", 3)]}, None),
        ({"items": [item("333333333.3334", 3)]}, (OUT, "items[0]")),
        ({"items": [item("5000000"), *[item("5000000")] * 199]}, None),
        ({"items": [item("5000000.0001"), *[item("5000000")] * 199]}, (OUT, "items")),
        ({"items": [item("1000000000"), item("0.0001")]}, (OUT, "items")),
        ({"items": [item("1000000000"), item(None, MAX_QUANTITY)]}, None),
        ({"items": [item("1000", 10**6), item("1000", 10**6)]}, (OUT, "items")),
        ({"items": [item(None, MAX_QUANTITY)] * MAX_ITEMS}, None),
        ({"items": [item(None, MAX_QUANTITY + 1)]}, (OUT, "items[0].quantity")),
        ({"items": [item("99999999999.99", MAX_QUANTITY)]}, (OUT, "items[0].price")),
    ],
)
def test_each_limit_is_kept_to_the_last_unit(fields: dict[str, Any], wanted: Verdict) -> None:
    assert verdict(**fields) == wanted


NEAR = st.one_of(
    st.sampled_from([1, MAX_AMOUNT, MAX_AMOUNT // MAX_ITEMS, MAX_AMOUNT // MAX_QUANTITY]),
    st.integers(0, 2 * MAX_AMOUNT),
)
PRICE = st.one_of(
    st.tuples(NEAR, st.integers(0, 9999), st.integers(0, 4)).map(
        lambda parts: f"{parts[0]}.{parts[1]:04d}"[: len(str(parts[0])) + 1 + parts[2]].rstrip(".")
    ),
    NEAR,
    st.floats(0, 2e9),
)
QUANTITY = st.one_of(st.none(), st.sampled_from([1, 2, MAX_QUANTITY]), st.integers(1, MAX_QUANTITY))


@settings(max_examples=400, deadline=None)
@given(
    currency=st.sampled_from(["CLF", "KWD", "EUR", "JPY"]),
    value=PRICE,
    items=st.lists(st.tuples(st.one_of(st.none(), PRICE), QUANTITY), max_size=6),
    copies=st.sampled_from([1, 33]),
)
def test_what_is_let_in_never_overflows(
    currency: str, value: Any, items: list[tuple[Any, int | None]], copies: int
) -> None:
    listed = [item(*each) for each in items] * copies
    sent = raw(event="purchase", order_id="o", currency=currency, value=value, items=listed)
    found = check(sent, now_ms=NOW_MS, limits=LIMITS)
    processed = process(batch([sent]), limits=LIMITS, enrichment=ENRICHMENT)
    assert processed.rows.is_empty() == isinstance(found, Rejection)
    if processed.rows.is_empty():
        reject = processed.rejects.row(0, named=True)
        assert isinstance(found, Rejection)
        assert (reject["reason"], reject["field"]) == (str(found.reason), found.field)
        return
    limit = MAX_AMOUNT * 10 ** EXPONENTS[currency]
    (row,) = processed.rows.iter_rows(named=True)
    lines = [(line["price_minor"] or 0) * line["quantity"] for line in processed.items.to_dicts()]
    assert 0 <= row["value_minor"] <= limit
    assert all(0 <= line <= limit for line in lines)
    assert sum(lines) <= limit < INT8 // 900_000
    assert row["units"] == sum(quantity or 1 for _, quantity in items) * copies <= INT4
    assert row["units"] <= MAX_ITEMS * MAX_QUANTITY <= INT4
