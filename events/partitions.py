"""Which partition a merchant's events are in: the Java client's murmur2, so that all agree."""

from typing import Final

import numpy as np
import numpy.typing as npt

_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_DIGITS: Final = 20  # places of a merchant id's decimal, a whole number of 4-byte words


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, seed 0x9747b28c, as an unsigned integer."""
    h = (_SEED ^ len(data)) & _MASK
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(merchant_id: int, partitions: int) -> int:
    """The partition of the topic, of so many, that holds a merchant."""
    return (murmur2(str(merchant_id).encode()) & 0x7FFFFFFF) % partitions


def partitions_of(merchant_ids: npt.NDArray[np.int64], partitions: int) -> npt.NDArray[np.int32]:
    """The same for many at a time: an int32 for each int64, which must not be negative."""
    distinct, back = np.unique(merchant_ids, return_inverse=True)
    texts = distinct.astype(f"S{_DIGITS}").view(np.uint8).reshape(distinct.size, _DIGITS)
    lengths = (texts != 0).sum(axis=1)
    hashes = np.zeros(distinct.size, np.uint32)
    for length in np.unique(lengths).tolist():
        here = lengths == length
        hashes[here] = _murmur2_of_rows(texts[here], length)
    placed: npt.NDArray[np.int32] = ((hashes & 0x7FFFFFFF) % partitions).astype(np.int32)
    return placed[back]


def _murmur2_of_rows(rows: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.uint32]:
    """`murmur2` of the first `length` bytes of each row; what is behind them is zero."""
    words = np.ascontiguousarray(rows).view("<u4").astype(np.uint32)
    m = np.uint32(_M)
    h = np.full(len(rows), _SEED ^ length, np.uint32)
    for at in range(length // 4):
        k = words[:, at] * m
        h = (h * m) ^ ((k ^ (k >> np.uint32(24))) * m)
    if length % 4:
        h = (h ^ words[:, length // 4]) * m
    h = (h ^ (h >> np.uint32(13))) * m
    return h ^ (h >> np.uint32(15))
