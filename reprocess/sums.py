"""The sums of a day that an operator watches, of the rows that stood and of those that came."""

from typing import Final

import polars as pl

from db.measures import Sum
from db.saturation import INT8_MAX

_OF: Final = ["merchant_id", "day", "measure"]


def saturated_sum(value: pl.Expr) -> pl.Expr:
    """The sum as the rollups make it: at the limit of int64 it stays there. The columns' own sum
    would wrap around."""
    return value.cast(pl.Int128).sum().clip(-INT8_MAX, INT8_MAX).cast(pl.Int64)


def sums_of(events: pl.DataFrame) -> pl.DataFrame:
    """merchant_id, UTC day, measure, value: none of them 0. Money is summed in minor units, a
    measure a currency; bots are a measure of their own."""
    people = ~pl.col("is_bot")
    orders = people & pl.col("counted") & (pl.col("event") == "purchase")
    money = pl.col("value_minor")
    wide = events.group_by("merchant_id", pl.col("ts").dt.date().alias("day"), "currency").agg(
        people.sum().cast(pl.Int64).alias("events"),
        pl.col("is_bot").sum().cast(pl.Int64).alias("bots"),
        (people & (pl.col("event") == "page_view")).sum().cast(pl.Int64).alias("page_views"),
        orders.sum().cast(pl.Int64).alias("orders"),
        pl.col("units").filter(orders).cast(pl.Int64).sum().alias("units"),
        saturated_sum(money.filter(orders)).alias("revenue"),
        saturated_sum(money.filter(people & (pl.col("event") == "refund"))).alias("refunds"),
    )
    long = wide.unpivot(index=["merchant_id", "day", "currency"], variable_name="measure")
    in_currency = pl.col("measure").is_in(["revenue", "refunds"])
    name = pl.when(in_currency).then(pl.format("{} {}", "measure", "currency"))
    named = long.with_columns(name.otherwise("measure").alias("measure"))
    counted = pl.col("measure").is_not_null() & (pl.col("value") != 0)
    return named.filter(counted).group_by(_OF).agg(saturated_sum(pl.col("value")))


def beside(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """merchant_id, day, measure, before, after: of old events and of new ones."""
    sides = [sums_of(old).rename({"value": "before"}), sums_of(new).rename({"value": "after"})]
    joined = sides[0].join(sides[1], on=_OF, how="full", coalesce=True)
    return joined.with_columns(pl.col("before", "after").fill_null(0))


def by_day(sums: pl.DataFrame) -> list[Sum]:
    """The same over all merchants, in order of day and measure."""
    days = sums.group_by("day", "measure").agg(saturated_sum(pl.col("before", "after")))
    return [Sum(*row) for row in days.sort("day", "measure").iter_rows()]
