"""Bodies that are taken in at a time: nobody's leave no room for the others."""

from contextlib import ExitStack

import pytest
from litestar.plugins.problem_details import ProblemDetailsException

from api import in_flight
from api.in_flight import FREE_BYTES, InFlight, Share, of_page, of_server

MIB = 1 << 20


class Filled:
    """What is held, by bodies that never end."""

    def __init__(self, stack: ExitStack) -> None:
        self.whole = InFlight()
        self._stack = stack

    def hold(self, shares: tuple[Share, ...], count: int) -> None:
        """One more body, of so many bytes beyond those that are free."""
        self._stack.enter_context(self.whole.reserving(shares)).add(FREE_BYTES + count)

    def refused(self, shares: tuple[Share, ...], count: int) -> int:
        """The status of the refusal of one more."""
        with pytest.raises(ProblemDetailsException) as error:
            self.hold(shares, count)
        return error.value.status_code


def test_one_merchants_servers_leave_room_for_the_others() -> None:
    with ExitStack() as stack:
        held = Filled(stack)
        held.hold(of_server(1), 16 * MIB)
        assert held.refused(of_server(1), 1) == 429
        held.hold(of_server(2), 16 * MIB)
        held.hold(of_server(3), 16 * MIB)
        assert held.refused(of_server(4), 1) == 503
    assert not held.whole.held


def test_pages_leave_room_for_servers_and_for_each_other() -> None:
    with ExitStack() as stack:
        held = Filled(stack)
        held.hold(of_page(1, "192.0.2.1"), MIB)
        assert held.refused(of_page(1, "192.0.2.1"), 1) == 429  # one visitor's
        for number in range(2, 5):
            held.hold(of_page(1, f"192.0.2.{number}"), MIB)
        assert held.refused(of_page(1, "192.0.2.9"), 1) == 429  # one shop's
        for shop in range(2, 5):
            for number in range(4):
                held.hold(of_page(shop, f"198.51.{shop}.{number}"), MIB)
        assert held.refused(of_page(9, "192.0.2.10"), 1) == 503  # all shops'
        held.hold(of_server(1), 16 * MIB)  # none of it is a server's
    assert not held.whole.held


def test_small_bodies_find_room_whatever_is_held() -> None:
    with ExitStack() as stack:
        held = Filled(stack)
        for shop in range(4):
            for number in range(4):
                held.hold(of_page(shop, f"192.0.{shop}.{number}"), MIB)
        for shop in range(3):
            held.hold(of_server(shop), 16 * MIB)
        for shares in (of_page(0, "192.0.0.0"), of_server(0), of_page(8, "192.0.2.1")):
            held.hold(shares, 0)
            assert held.refused(shares, 1) in (429, 503)


def test_a_body_that_grows_takes_what_it_grows_by() -> None:
    whole = InFlight()
    with whole.reserving(of_server(1)) as mine:
        for _ in range(10):
            mine.add(FREE_BYTES // 2)
        assert mine.held == 4 * FREE_BYTES
        assert whole.held["servers"] == whole.held["servers of 1"] == 4 * FREE_BYTES
    assert in_flight.OF_SERVERS + in_flight.OF_PAGES == 64 * MIB
