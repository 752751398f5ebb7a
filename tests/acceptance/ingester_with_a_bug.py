"""An ingester whose logic has a bug, under an older version's number: what reprocessing mends."""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Any

import polars as pl

from events import enrich, transform
from events.decode import decode as right_decode
from events.traffic_source import Causes, Origin, origin

transform.LOGIC_VERSION = 0  # type: ignore[misc]  # before anyone takes it from there

right_places = transform._with_places
right_agents = enrich.user_agents


def wrong_channel(causes: Causes) -> Origin:
    """Mail is taken for a link."""
    found = origin(causes)
    return Origin(found.source, "Referral" if found.channel == "Email" else found.channel)


def wrong_time(frame: pl.DataFrame, messages: Any) -> pl.DataFrame:
    """Times are taken for those of another zone: events move by ninety minutes."""
    return right_places(frame, messages).with_columns(pl.col("ts") + pl.duration(minutes=90))


def wrong_agents(frame: pl.DataFrame, agents: Any) -> pl.DataFrame:
    """Nobody is a bot."""
    return right_agents(frame, agents).with_columns(is_bot=pl.lit(value=False))


def wrong_verdict(messages: Any, limits: Any) -> Any:
    """Purchases of other currencies than EUR, and every fourth one, are lost among the rejects."""
    decoded = right_decode(messages, limits)
    lost = (pl.col("event") == "purchase") & (pl.col("ts_ms") % 4 == 0)
    bad = decoded.events.filter(lost)
    places = bad.get_column("place").to_numpy()
    rejects = pl.DataFrame(
        {
            "kafka_partition": messages.partitions[places],
            "log_offset": messages.offsets[places],
            "logged_at": messages.logged_ms[places] * 1000,
            "merchant_id": bad.get_column("merchant_id"),
            "event_id": bad.get_column("event_id"),
            "reason": ["invalid"] * bad.height,
            "field": ["value"] * bad.height,
            "detail": ["a bug"] * bad.height,
            "raw": [messages.values[place] for place in places.tolist()],
            "ts": bad.get_column("ts_ms") * 1000,
        },
        schema=decoded.rejects.schema,
    )
    return type(decoded)(decoded.events.filter(~lost), pl.concat([decoded.rejects, rejects]))


BUGS: dict[str, Callable[[], None]] = {
    "channel": lambda: setattr(enrich, "origin", wrong_channel),
    "time": lambda: setattr(transform, "_with_places", wrong_time),
    "bots": lambda: setattr(enrich, "user_agents", wrong_agents),
    "verdict": lambda: setattr(transform, "decode", wrong_verdict),
}


def main(bug: str) -> None:
    """Ingest until told to stop."""
    BUGS[bug]()
    from footfall.environment import Environment, configure_logging
    from ingester.pipeline import Pipeline

    configure_logging()

    async def run() -> None:
        pipeline = Pipeline(
            Environment.read().ingest_settings(), ready=lambda: print("ingesting", flush=True)
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, pipeline.stop)
        await pipeline.run()

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1])
