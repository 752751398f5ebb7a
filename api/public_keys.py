"""What may come by a public key, which stands in a shop's pages: any program can send with it.

Recent events, not too many or too large at a time, of values that the merchant finds plausible, and
orders only where the merchant allows them. What passes is marked on the log, so that it never takes
an order from a server's key (`db.orders`).
"""

from decimal import Decimal
from typing import Final

from api.problems import problem
from db.catalogue import Merchant
from events.check import ORDER_EVENTS, PUBLIC_KEY, Event, Rejection
from events.limits import Limits
from events.reasons import Reason

MAX_BODY_BYTES: Final = 256 << 10
MAX_EVENTS: Final = 500
EVENTS_A_POINT: Final = 50  # a point more for each so many events
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
    amounts = [("value", event.value, 1)]
    amounts += [
        (f"items[{at}].price", item.price, item.quantity or 1)
        for at, item in enumerate(event.items or [])
    ]
    for field, amount, quantity in amounts:
        if amount is not None and Decimal(str(amount)) * quantity > limit:
            return Rejection(
                Reason.OUT_OF_RANGE,
                field,
                f"more than {limit} may not come from a page of this shop: send it from a server, "
                "with a secret key",
            )
    return None


def check_size(body_bytes: int, events: int) -> None:
    """Refuse a request that no page needs.

    Raises:
        ProblemDetailsException: 413.
    """
    if body_bytes > MAX_BODY_BYTES or events > MAX_EVENTS:
        raise problem(
            413,
            "too_large_for_a_page",
            f"A public key sends at most {MAX_EVENTS} events and {MAX_BODY_BYTES >> 10} KiB at a "
            "time.",
        )


def mark(event: Event) -> None:
    """Say on the log that it came by a public key."""
    event.sent_by = PUBLIC_KEY
