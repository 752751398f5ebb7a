"""murmur2 as the Java client computes it."""

import random

import numpy as np
import pytest

from events.partitions import murmur2, partition_of, partitions_of


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


def test_many_at_a_time_are_placed_as_each_by_itself() -> None:
    dice = random.Random(3)
    merchants = [
        1,
        9,
        10,
        2**63 - 1,
        *(dice.randrange(10 ** dice.randrange(1, 19)) for _ in range(3_000)),
    ]
    for partitions in (1, 8, 12, 1_000):
        found = partitions_of(np.array(merchants, np.int64), partitions).tolist()
        assert found == [partition_of(each, partitions) for each in merchants]
    assert partitions_of(np.empty(0, np.int64), 8).tolist() == []


def test_every_merchant_has_a_partition() -> None:
    found = {partition_of(merchant, 8) for merchant in range(1, 200)}
    assert found == set(range(8))
