"""What every process of footfall loads and works out before it does anything; see `tests.warm`."""

from events.agents import resolver
from events.traffic_source import registrable_domain
from footfall import archiving, diffing, shards, verifying
from ingester import pipeline

__all__ = ["archiving", "diffing", "pipeline", "shards", "verifying"]

resolver()  # not `parse`: it uses polars, whose threads do not survive the fork
registrable_domain("shop.example")
