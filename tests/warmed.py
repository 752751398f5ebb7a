"""What every process of footfall loads and works out before it does anything; see `tests.warm`."""

from events.agents import parse
from events.traffic_source import registrable_domain
from footfall import archiving, diffing, shards, verifying
from ingester import pipeline

__all__ = ["archiving", "diffing", "pipeline", "shards", "verifying"]

parse("")
registrable_domain("shop.example")
