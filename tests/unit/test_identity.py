"""Hashes and registers are fixed for ever: these golden values must never change."""

import math

import numpy as np
import polars as pl
import pytest

from events.identity import hashed, registers

GOLDEN = {
    "": 0x2D06800538D394C2,  # XXH3's own published value for no input
    "v-1": -3163878788575577956,
    "visitor": 1743258285202486473,
    "übergröße": -7196198244271281511,
    "0123456789abcdef0123456789abcdef": 77156422110593109,
}


def of(*identifiers: str) -> np.ndarray:
    """Their hashes."""
    return pl.DataFrame({"id": list(identifiers)}).select(hashed("id")).to_series().to_numpy()


def test_the_hash_is_pinned() -> None:
    assert dict(zip(GOLDEN, of(*GOLDEN).tolist(), strict=True)) == GOLDEN


def test_null_stays_null() -> None:
    frame = pl.DataFrame({"id": [None, "a"]}, schema={"id": pl.String})
    assert frame.select(hashed("id")).to_series().null_count() == 1


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
    register, rank = registers(of(*(f"visitor {number}" for number in range(count))))
    best = np.zeros(4096, np.int16)
    np.maximum.at(best, register, rank)
    zeros = int((best == 0).sum())
    alpha = 0.7213 / (1 + 1.079 / 4096)
    estimate = alpha * 4096**2 / float((2.0 ** -best.astype(float)).sum())
    if estimate <= 2.5 * 4096 and zeros:
        estimate = 4096 * math.log(4096 / zeros)
    assert abs(estimate - count) <= max(1, 4 * 1.04 / 64 * count)
