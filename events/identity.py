"""Visitors and sessions as 64-bit hashes, and the registers that visitors are counted with.

The hash is XXH3 (64 bits) of the identifier's UTF-8 bytes. It is fixed for ever: changing it would
make every stored register incomparable with the next, and golden values in the tests pin it.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

REGISTER_BITS: Final = 12  # 4096 registers: standard error 1.04 / sqrt(4096) = 1.63 %
_REST_BITS: Final = 64 - REGISTER_BITS


def hashed(column: str) -> pl.Expr:
    """The identifier as a signed 64-bit integer; null stays null."""
    return plh.col(column).nchash.xxh3_64().reinterpret(signed=True)


def registers(
    hashes: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """HyperLogLog register (0..4095) and rank (1..53) of each hash.

    The register is the hash's top 12 bits; the rank is the place of the first 1 among the other
    52, counted from 1, and 53 where there is none (Flajolet et al., 2007).
    """
    bits = hashes.view(np.uint64)
    register = (bits >> np.uint64(_REST_BITS)).astype(np.int16)
    rest = bits & np.uint64((1 << _REST_BITS) - 1)
    # A 52-bit integer is exact as a double, whose exponent is the place of its first 1.
    _, exponent = np.frexp(rest.astype(np.float64))
    rank = np.where(rest == 0, _REST_BITS + 1, _REST_BITS - exponent + 1).astype(np.int16)
    return register, rank
