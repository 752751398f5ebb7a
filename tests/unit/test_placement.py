"""murmur2 as the Java client computes it."""

import pytest

from db.placement import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        # Kafka's own test vectors (UtilsTest.testMurmur2)
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_java_clients_vectors(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_every_merchant_has_a_partition() -> None:
    found = {partition_of(merchant, 8) for merchant in range(1, 200)}
    assert found == set(range(8))
