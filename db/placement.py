"""Which partition a merchant's events are in: the Java client's murmur2, so that all agree."""

from typing import Final

_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, seed 0x9747b28c, as an unsigned integer."""
    h = (0x9747B28C ^ len(data)) & _MASK
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
