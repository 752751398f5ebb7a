"""Memory for the bodies that a worker takes in at a time, in shares.

Servers and pages have a share each, and within it each merchant; of pages also each address. So
what comes by public keys leaves room for servers, one merchant for the others, and one visitor for
the merchant's others. The first bytes of a body are free, so that a page view or an order finds
room while others send large bodies; the number of connections bounds them.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from api.problems import problem

FREE_BYTES: Final = 8 << 10  # of each body
OF_SERVERS: Final = 48 << 20
OF_PAGES: Final = 16 << 20
OF_MERCHANT: Final = 16 << 20  # from its servers
OF_MERCHANTS_PAGES: Final = 4 << 20
OF_ADDRESS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes that a part of the senders may hold; of all of a kind where it has no name."""

    name: str
    limit: int
    of: str = ""


def of_server(merchant_id: int) -> tuple[Share, ...]:
    """The shares that a body sent with a secret key takes from."""
    return (
        Share("servers", OF_SERVERS),
        Share(f"servers of {merchant_id}", OF_MERCHANT, "this merchant"),
    )


def of_page(merchant_id: int, address: str) -> tuple[Share, ...]:
    """The shares that a body sent with a public key takes from."""
    return (
        Share("pages", OF_PAGES),
        Share(f"pages of {merchant_id}", OF_MERCHANTS_PAGES, "this merchant's pages"),
        Share(f"address {address}", OF_ADDRESS, "this address"),
    )


@dataclass(slots=True)
class InFlight:
    """Bytes that are held, by the name of their share."""

    held: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def reserving(self, shares: tuple[Share, ...]) -> Iterator["Reservation"]:
        """A reservation that grows with the body and is given back at the end."""
        reservation = Reservation(self, shares)
        try:
            yield reservation
        finally:
            for share in shares:
                self.held[share.name] -= reservation.held
                if not self.held[share.name]:
                    del self.held[share.name]


@dataclass(slots=True)
class Reservation:
    """What one body takes."""

    whole: InFlight
    shares: tuple[Share, ...]
    size: int = 0
    held: int = 0

    def add(self, count: int) -> None:
        """Reserve more bytes.

        Raises:
            ProblemDetailsException: 429 where the sender's own share is used up, 503 where that of
                all senders of its kind is.
        """
        more = max(0, self.size + count - FREE_BYTES) - self.held
        for share in self.shares:
            if more and self.whole.held[share.name] + more > share.limit:
                raise _used_up(share)
        self.size += count
        self.held += more
        for share in self.shares:
            self.whole.held[share.name] += more


def _used_up(share: Share) -> Exception:
    if share.of:
        return problem(
            429,
            "too_many_at_once",
            f"Requests of {share.of} hold {share.limit >> 20} MiB of events that are not through "
            "yet: send fewer at a time.",
            headers={"Retry-After": "1"},
        )
    return problem(
        503,
        "busy",
        "Too many large requests are being taken in: send these events again later.",
        headers={"Retry-After": "2"},
    )
