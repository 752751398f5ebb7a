"""Keyed hashes are fixed for the life of a key: these golden values must never change."""

import hashlib
import hmac
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.identity import VisitorHash, registers
from tests.keys import VISITOR_HASH, VISITOR_HASH_KEY

GOLDEN = {
    "v-1": 2631837105984497463,
    "visitor": 5038363473096096176,
    "übergröße": 3662540736423965072,
    "0123456789abcdef0123456789abcdef": 5312534165484997805,
}


def of(*identifiers: str | None, visitor_hash: VisitorHash = VISITOR_HASH) -> list[int | None]:
    """Their hashes."""
    frame = pl.DataFrame({"id": list(identifiers)}, schema={"id": pl.String})
    hashes: list[int | None] = visitor_hash.add(frame, "id", "hash").get_column("hash").to_list()
    return hashes


def by_rfc_2104(identifier: str, key: bytes) -> int:
    """The same by Python's own HMAC."""
    digest = hmac.new(key.hex().encode(), identifier.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def test_the_hash_is_pinned() -> None:
    assert dict(zip(GOLDEN, of(*GOLDEN), strict=True)) == GOLDEN


@given(
    st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=130))),
    st.binary(min_size=32, max_size=32),
)
def test_it_is_hmac_sha256_and_no_text_has_no_hash(ids: list[str | None], key: bytes) -> None:
    expected = [by_rfc_2104(each, key) if each else None for each in ids]
    assert of(*ids, visitor_hash=VisitorHash(key)) == expected


def test_another_key_gives_unrelated_hashes() -> None:
    names = [f"customer-{number}@example.com" for number in range(1000)]
    other = VisitorHash(bytes(32))
    assert not set(of(*names)) & set(of(*names, visitor_hash=other))


def test_registers_cannot_be_chosen_without_the_key() -> None:
    """Ids that fill every register with high ranks under one key are ordinary ids under another."""
    names = [f"forged-{number}" for number in range(60_000)]
    mine = np.array(of(*names, visitor_hash=VisitorHash(bytes(32))), np.int64)
    _, ranks = registers(mine)
    forged = [name for name, rank in zip(names, ranks.tolist(), strict=True) if rank >= 8]
    _, theirs = registers(np.array(of(*forged), np.int64))
    assert len(forged) > 300
    assert 1.5 < theirs.mean() < 2.5  # the mean rank of random hashes is 2


def test_the_key_is_not_shown() -> None:
    assert VISITOR_HASH_KEY.hex() not in repr(VISITOR_HASH)
    assert "key" not in repr(VISITOR_HASH)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 5"):
        VisitorHash(b"short")


@pytest.mark.parametrize(
    ("bits", "register", "rank"),
    [
        (0, 0, 53),
        (1, 0, 52),
        (1 << 51, 0, 1),
        ((1 << 52) - 1, 0, 1),
        (1 << 52, 1, 53),
        ((1 << 64) - 1, 4095, 1),
        ((0xABC << 52) | (1 << 40), 0xABC, 12),
    ],
)
def test_register_is_the_top_and_rank_the_first_one_below(
    bits: int, register: int, rank: int
) -> None:
    hashes = np.array([bits], np.uint64).view(np.int64)
    registers_found, ranks_found = registers(hashes)
    assert (registers_found.tolist(), ranks_found.tolist()) == ([register], [rank])


@pytest.mark.parametrize("count", [10, 1000, 20_000, 200_000])
def test_the_estimate_is_within_four_standard_errors(count: int) -> None:
    hashes = of(*(f"visitor {number}" for number in range(count)))
    register, rank = registers(np.array(hashes, np.int64))
    best = np.zeros(4096, np.int16)
    np.maximum.at(best, register, rank)
    zeros = int((best == 0).sum())
    alpha = 0.7213 / (1 + 1.079 / 4096)
    estimate = alpha * 4096**2 / float((2.0 ** -best.astype(float)).sum())
    if estimate <= 2.5 * 4096 and zeros:
        estimate = 4096 * math.log(4096 / zeros)
    assert abs(estimate - count) <= max(1, 4 * 1.04 / 64 * count)
