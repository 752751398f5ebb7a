"""Which purchase of an order counts, and what a replacement of history does to that.

A purchase by a server's key or the topic comes before one by a public key, which anyone can send,
and a person's before a bot's. Among equals the first in the log counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import polars as pl

from db.pools import Connection

# The lowest wins: 0 a person's by a server, 1 a person's by a public key, 2 and 3 a bot's likewise.
PRECEDENCE: Final = (
    pl.col("is_bot").cast(pl.Int16) * 2 + pl.col("from_public_key").cast(pl.Int16)
).alias("precedence")
PRECEDENCE_SQL: Final = "is_bot::int * 2 + from_public_key::int"

_FIRSTS: Final = """
SELECT merchant_id, order_id, log_offset, ts, precedence
  FROM first_order
  JOIN (SELECT DISTINCT * FROM unnest($1::int8[], $2::text[])) AS asked (merchant_id, order_id)
 USING (merchant_id, order_id)
"""
# Only for orders that lost their first purchase: rare enough to look through a merchant's rows.
_OTHERS: Final = f"""
SELECT DISTINCT ON (merchant_id, order_id) merchant_id, order_id, log_offset, ts,
       {PRECEDENCE_SQL} AS precedence
  FROM events JOIN unnest($1::int8[], $2::text[]) AS lost (merchant_id, order_id)
 USING (merchant_id, order_id)
 WHERE kafka_partition = $3 AND event = 'purchase' AND log_offset <> ALL ($4::int8[])
 ORDER BY merchant_id, order_id, precedence, log_offset
"""
_FORGET: Final = """
DELETE FROM first_order USING unnest($1::int8[], $2::text[]) AS lost (merchant_id, order_id)
 WHERE first_order.merchant_id = lost.merchant_id AND first_order.order_id = lost.order_id
"""
_CLAIM: Final = """
INSERT INTO first_order (merchant_id, order_id, ts, kafka_partition, log_offset, precedence)
SELECT merchant_id, order_id, ts, $5, log_offset, precedence
  FROM unnest($1::int8[], $2::text[], $3::timestamptz[], $4::int8[], $6::int2[])
       AS claim (merchant_id, order_id, ts, log_offset, precedence)
    ON CONFLICT (merchant_id, order_id)
    DO UPDATE SET ts = excluded.ts, kafka_partition = excluded.kafka_partition,
                  log_offset = excluded.log_offset, precedence = excluded.precedence
"""
Order = tuple[int, str]  # merchant, order id


@dataclass(frozen=True, slots=True)
class Claim:
    """A purchase that may be the one of its order that counts."""

    offset: int
    ts: datetime
    precedence: int = field(default=0, compare=False)  # of the message, by its logic


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replacement makes of the claims on some orders."""

    uncounted: list[int]  # offsets of new purchases that do not count
    elsewhere: list[tuple[Claim, bool]]  # purchases outside the slice: whether they count now
    forgotten: list[Order]
    claimed: dict[Order, Claim]


def decide(
    old: dict[Order, Claim],
    new: dict[Order, list[Claim]],
    firsts: dict[Order, Claim],
    others: dict[Order, Claim],
) -> Verdict:
    """Who counts now.

    Args:
        old: the slice's old purchases that were the first of their order.
        new: the slice's new purchases, each order's in log order.
        firsts: the first purchase of each order as it stands.
        others: for orders in `old` that lost that purchase, the first one outside the slice.
    """
    verdict = Verdict([], [], [], {})
    for order in old.keys() | new.keys():
        claims = new.get(order, [])
        first = firsts.get(order)
        inside = order in old
        outside = others.get(order) if inside else first
        winner = best([*claims, *([outside] if outside else [])])
        verdict.uncounted.extend(each.offset for each in claims if each != winner)
        if winner is None:
            verdict.forgotten.append(order)
        elif winner != first or winner.precedence != first.precedence:
            verdict.claimed[order] = winner
        if outside is not None:
            counts_now, counted = winner == outside, not inside
            if counts_now != counted:
                verdict.elsewhere.append((outside, counts_now))
    return verdict


def best(claims: Sequence[Claim]) -> Claim | None:
    """The one that counts. Events that came from files have no place in the log: beside them equals
    are decided by time."""
    if any(claim.offset < 0 for claim in claims):
        return min(claims, key=lambda each: (each.precedence, each.ts, each.offset))
    return min(claims, key=lambda each: (each.precedence, each.offset), default=None)


async def firsts_of(connection: Connection, orders: Iterable[Order]) -> dict[Order, Claim]:
    """The first purchase of each of these orders, as it stands."""
    merchants, names = _split(orders)
    rows = await connection.fetch(_FIRSTS, merchants, names)
    return {(m, o): Claim(offset, ts, precedence) for m, o, offset, ts, precedence in rows}


async def others_of(
    connection: Connection, partition: int, orders: Iterable[Order], without: list[int]
) -> dict[Order, Claim]:
    """The first purchase of each order among the rows that stand, but for these offsets."""
    merchants, names = _split(orders)
    if not merchants:
        return {}
    rows = await connection.fetch(_OTHERS, merchants, names, partition, without)
    return {(m, o): Claim(offset, ts, precedence) for m, o, offset, ts, precedence in rows}


async def keep(connection: Connection, partition: int, verdict: Verdict) -> None:
    """Write the claims as decided."""
    if verdict.forgotten:
        await connection.execute(_FORGET, *_split(verdict.forgotten))
    if verdict.claimed:
        merchants, names = _split(verdict.claimed)
        claims = list(verdict.claimed.values())
        await connection.execute(
            _CLAIM,
            merchants,
            names,
            [claim.ts for claim in claims],
            [claim.offset for claim in claims],
            partition,
            [claim.precedence for claim in claims],
        )


def _split(orders: Iterable[Order]) -> tuple[list[int], list[str]]:
    listed = list(orders)
    return [merchant for merchant, _ in listed], [name for _, name in listed]
