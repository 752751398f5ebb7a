"""Visitors and sessions as keyed 64-bit hashes, and the registers that visitors are counted with.

A visitor id may be an e-mail address or a customer number. An unkeyed hash of it can be found by
dictionary, and anyone could choose ids that fall into the registers they like. So the hash is
HMAC-SHA-256 (RFC 2104) under a secret of the installation, cut to its first 64 bits.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

REGISTER_BITS: Final = 12  # 4096 registers: standard error 1.04 / sqrt(4096) = 1.63 %
KEY_BYTES: Final = 32
_REST_BITS: Final = 64 - REGISTER_BITS
_HASH_HEX: Final = 16  # 64 of the 256 bits


@dataclass(frozen=True, slots=True)
class VisitorHash:
    """The keyed hash of one installation. Fixed for its life: another key makes every stored hash
    and register incomparable with the next."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"a visitor hash key has {KEY_BYTES} bytes, not {len(self.key)}")

    def add(self, frame: pl.DataFrame, source: str, target: str) -> pl.DataFrame:
        """The frame with an int64 column `target`, the hash of the text column `source`; null and
        empty texts stay null. A distinct text is hashed once."""
        texts = frame.get_column(source)
        distinct = texts.filter(texts.str.len_bytes() > 0).unique()
        if distinct.is_empty():
            return frame.with_columns(pl.lit(None, pl.Int64).alias(target))
        # The MAC's key is the hex text of the secret: polars takes keys as text.
        digest = plh.col("text").chash.hmac_sha256(key=self.key.hex())
        hashes = (
            distinct.to_frame("text")
            .select(digest.str.slice(0, _HASH_HEX).str.decode("hex"))
            .to_series()
            .bin.reinterpret(dtype=pl.Int64, endianness="big")
        )
        return frame.with_columns(
            texts.replace_strict(distinct, hashes, default=None, return_dtype=pl.Int64).alias(
                target
            )
        )


def fingerprint(column: str) -> pl.Expr:
    """A fast hash (XXH3, 64 bits) of a text column for our own filters and checksums; null stays
    null. Not secret: whoever forges a collision causes one look-up in the table, nothing else."""
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
