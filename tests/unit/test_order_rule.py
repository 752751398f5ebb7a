"""Who counts, whatever a replacement takes away and brings: held against looking at all of them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from db.orders import Claim, best, decide

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
ORDER = (7, "1001")

_precedences = st.integers(0, 3)


def claim(offset: int, precedence: int) -> Claim:
    return Claim(offset, NOON + timedelta(seconds=offset), precedence)


def test_a_server_comes_before_a_page_and_a_person_before_a_bot() -> None:
    page, server, bot = claim(1, 1), claim(5, 0), claim(0, 2)
    assert best([page, server, bot]) is server
    assert best([page, bot]) is page
    assert best([claim(3, 0), server]) == claim(3, 0)
    assert best([]) is None


@given(
    st.lists(st.tuples(st.booleans(), _precedences, _precedences), min_size=1, max_size=7),
    st.data(),
)
def test_a_replacement_leaves_the_best_of_all(
    purchases: list[tuple[bool, int, int]], data: st.DataObject
) -> None:
    """Each purchase is within the slice or not, and has a precedence before and after."""
    old_inside, new_inside, outside = [], [], []
    for offset, (inside, before, after) in enumerate(purchases):
        if not inside:
            outside.append(claim(offset, before))
            continue
        old_inside.append(claim(offset, before))
        if data.draw(st.booleans()):  # else the new logic rejects it
            new_inside.append(claim(offset, after))
    first = best([*old_inside, *outside])
    held = {ORDER: first} if first is not None and first in old_inside else {}
    winner_inside = best(new_inside)
    lost = first in old_inside and (
        winner_inside is None
        or winner_inside != first
        or (first is not None and winner_inside.precedence > first.precedence)
    )
    other = best(outside)
    verdict = decide(
        held,
        {ORDER: new_inside} if new_inside else {},
        {ORDER: first} if first else {},
        {ORDER: other} if lost and other else {},
    )
    wanted = best([*new_inside, *outside])
    counted = {each.offset for each in new_inside} - set(verdict.uncounted)
    for each, counts in verdict.elsewhere:
        assert (each == wanted) == counts
    if wanted is None:
        assert counted == set()
        assert not held or verdict.forgotten == [ORDER]
    elif wanted in new_inside:
        assert counted == {wanted.offset}
    else:
        assert counted == set()
        assert wanted == first or (wanted, True) in verdict.elsewhere
    if wanted is not None and (held or new_inside) and wanted != first:
        assert verdict.claimed[ORDER] == wanted
