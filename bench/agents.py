"""Distinct user agents per second, by Footfall and by the packages' own matching, in one run.

    python -m bench.agents [--agents 10000] [--peer 300]

The peer is `crawleruseragents.is_crawler` and `ua_parser.parse` over the whole text, uncached, on
the first `--peer` of the same agents. CPU seconds of this process; the cost of a batch's automaton
is within. Ordinary agents are those that the crawler list gives as examples, and browsers' with
varying versions; hostile ones have 2,048 characters, random or of the words that rules look for.
"""

import argparse
import random
import string
import time
from collections.abc import Callable, Sequence

import crawleruseragents
import ua_parser
from rich.console import Console
from rich.table import Table

from events.agents import parse, parse_all

LONG = 2048
WORDS = (
    "Spider Current ContextualBo Mozilla/5.0 ( Safari/ Chrome/ Android Version/ Linux 1.1 CFNetwork"
)
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/{}.0.{}.{} Safari/537.36"
)
console = Console()


def kinds(count: int) -> dict[str, list[str]]:
    """Distinct agents of each kind."""
    chosen = random.Random(7)
    letters, words = string.ascii_letters + string.digits + " /.;()", WORDS.split()
    listed = [text for each in crawleruseragents.CRAWLER_USER_AGENTS_DATA for text in
              each.get("instances", [])]  # fmt: skip
    return {
        "browsers": [BROWSER.format(n % 150, n, n % 99) for n in range(count)],
        "listed crawlers": listed[:count],
        "hostile, random": [
            f"{n} " + "".join(chosen.choices(letters, k=LONG - 8)) for n in range(count)
        ],
        "hostile, words": [
            (f"{n} " + "".join(chosen.choices(words, k=LONG // 4)))[:LONG] for n in range(count)
        ],
        "hostile, backtracking": [(f"{n} " + "Current" * LONG)[:LONG] for n in range(count)],
    }


def peer(agents: Sequence[str]) -> None:
    """The packages' own functions, one agent at a time."""
    for agent in agents:
        if not crawleruseragents.is_crawler(agent):
            ua_parser.parse(agent)


def microseconds(run: Callable[[Sequence[str]], object], agents: Sequence[str]) -> float:
    """CPU time for each agent."""
    began = time.process_time()
    run(agents)
    return (time.process_time() - began) / len(agents) * 1e6


def main(count: int, peers: int) -> None:
    """Measure and print."""
    parse("warm")
    peer(["warm"])
    table = Table("agents", "Footfall, µs each", "packages, µs each", "times as fast")
    for name, agents in kinds(count).items():
        ours, theirs = microseconds(parse_all, agents), microseconds(peer, agents[:peers])
        table.add_row(name, f"{ours:,.1f}", f"{theirs:,.1f}", f"{theirs / ours:,.0f}")
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--peer", type=int, default=300)
    arguments = parser.parse_args()
    main(arguments.agents, arguments.peer)
