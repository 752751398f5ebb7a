"""A message's key names the merchant that its row will have."""

import pytest

from events.lines import key_of
from events.reasons import Reason
from tests.unit.messages import batch, raw
from tests.unit.test_totality import processed


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (raw(merchant_id=42), b"42"),
        (raw(merchant_id=42, properties={"merchant_id": 9}), b"42"),
        (raw(merchant_id=42)[:-1] + b', "merchant_id": 9}', b"42"),
        (raw(merchant_id=42)[:-1] + rb', "merchant\u005fid": 9}', b"42"),
        (raw(merchant_id=...), b""),
        (b"{no", b""),
    ],
)
def test_the_key_of_a_line_is_the_merchant_of_its_row(line: bytes, key: bytes) -> None:
    assert key_of(line) == key
    found = processed(batch([line]))
    merchants = [*found.rows["merchant_id"].to_list(), *found.rejects["merchant_id"].to_list()]
    assert merchants == [int(key) if key else None]
    assert str(Reason.TRANSFORM_GAP) not in found.rejects["reason"].to_list()


def test_repeated_properties_store_the_first() -> None:
    line = raw(properties={"a": 1})[:-1] + b', "properties": {"b": 2}}'
    (stored,) = processed(batch([line])).rows["properties"].to_list()
    assert stored in ('{"a":1}', '{"a": 1}')
