"""The SQL of a rollup, written from the catalogue. Identifiers come from the catalogue alone."""

from datetime import timedelta

from db.rollups import Rollup


def _interval(length: timedelta) -> str:
    return f"INTERVAL '{int(length.total_seconds() // 3600)} hours'"


def bucket_of(rollup: Rollup) -> str:
    """The bucket of a row of the rollup's source."""
    return f"time_bucket({_interval(rollup.bucket)}, {rollup.time_column})"


def create_rollup(rollup: Rollup) -> str:
    """The continuous aggregate, WITH NO DATA: a migration never refreshes."""
    computed = dict(rollup.computed)
    dimensions = [
        f"{computed[name]} AS {name}" if name in computed else name for name in rollup.dimensions
    ]
    measures = [f"{measure.expression} AS {measure.name}" for measure in rollup.measures]
    selected = ",\n       ".join(
        [f"{bucket_of(rollup)} AS bucket", "merchant_id", *dimensions, *measures]
    )
    groups = ", ".join(str(number) for number in range(1, 3 + len(dimensions)))
    where = f"\n WHERE {rollup.where}" if rollup.where else ""
    return (
        f"CREATE MATERIALIZED VIEW {rollup.name}\n"
        "  WITH (timescaledb.continuous, timescaledb.materialized_only = "
        f"{'false' if rollup.real_time else 'true'},\n"
        "        timescaledb.create_group_indexes = false) AS\n"
        f"SELECT {selected}\n  FROM {rollup.source}{where}\n GROUP BY {groups}\n"
        "  WITH NO DATA"
    )


def index_rollup(rollup: Rollup) -> str:
    """The one index that every question uses."""
    return f"CREATE INDEX {rollup.name}_merchant ON {rollup.name} (merchant_id, bucket)"


def enable_columnstore(rollup: Rollup) -> str:
    """Let its chunks be columns, in the segments and the order in which questions read them."""
    return (
        f"ALTER MATERIALIZED VIEW {rollup.name} SET (timescaledb.enable_columnstore = true,\n"
        "    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket')"
    )
