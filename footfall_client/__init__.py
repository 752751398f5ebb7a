"""Footfall for Python: ask for a shop's numbers, send its events.

    with Footfall("https://footfall.example", key) as shop:
        answer = shop.ask(Query(["visitors", "revenue"], date_range="7d", dimensions=["time:day"]))
        shop.ask(Send([{"event": "page_view", "visitor_id": "v-1", "url": "https://shop.example/"}]))

What is asked is a value; `Footfall.ask` and `await AsyncFootfall.ask` answer the same ones.
"""

from footfall_client.answers import Answer, Meta, Money, Rejected, Sent
from footfall_client.asks import Ask, Breakdown, Query, Raw, Send, Summary, Timeseries
from footfall_client.client import AsyncFootfall, Footfall
from footfall_client.problem import Problem
from footfall_client.queue import EventQueue, QueueFullError
from footfall_client.retry import Patience

__all__ = [
    "Answer",
    "Ask",
    "AsyncFootfall",
    "Breakdown",
    "EventQueue",
    "Footfall",
    "Meta",
    "Money",
    "Patience",
    "Problem",
    "Query",
    "QueueFullError",
    "Raw",
    "Rejected",
    "Send",
    "Sent",
    "Summary",
    "Timeseries",
]
