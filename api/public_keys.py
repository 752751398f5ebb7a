"""What may come by a public key, which stands in a shop's pages: any program can send with it.

Recent events, not too many or too large at a time, of values that the merchant finds plausible, and
orders only where the merchant allows them. What passes is marked on the log, so that it never takes
an order from a server's key (`db.orders`).
"""

from decimal import Decimal
from typing import Final

from db.catalogue import Merchant
from events.check import ORDER_EVENTS, PUBLIC_KEY, Event, Rejection
from events.limits import Limits
from events.reasons import Reason

ROWS_A_POINT: Final = 50  # a point more for each so many events and items
LIMITS: Final = Limits(max_age_days=1)


def refusal(event: Event, merchant: Merchant) -> Rejection | None:
    """Why an event, which keeps the rules of all events, may not come by a public key."""
    if event.event in ORDER_EVENTS and not merchant.public_orders:
        return Rejection(
            Reason.NOT_ALLOWED,
            "event",
            f"{event.event} may not come from a page of this shop: send it from a server, with a "
            "secret key",
        )
    limit = merchant.public_value_limit
    lines = [
        Decimal(str(item.price)) * (item.quantity or 1)
        for item in event.items or []
        if item.price is not None
    ]
    value = Decimal(0) if event.value is None else Decimal(str(event.value))
    for field, amount in (("value", value), ("items", sum(lines))):
        if amount > limit:
            return Rejection(
                Reason.OUT_OF_RANGE,
                field,
                f"more than {limit} may not come from a page of this shop: send it from a server, "
                "with a secret key",
            )
    return None


def mark(event: Event) -> None:
    """Say on the log that it came by a public key."""
    event.sent_by = PUBLIC_KEY
