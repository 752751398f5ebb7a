"""Which user agents are crawlers, by the crawler-user-agents list, in time linear in their length.

Nearly all of the list's patterns are plain words, which one Aho-Corasick automaton finds in one
pass; the others form one alternation for Rust's regex engine, which never backtracks. Both are in
polars. Python's `re` takes milliseconds for a long text, and far more for a hostile one.
"""

import re
from typing import Final

import crawleruseragents
import polars as pl

_ESCAPE: Final = re.compile(r"\\([^A-Za-z0-9])")
_META: Final = re.compile(r"[\\.^$*+?()\[\]{}|]")


def _split(patterns: list[str]) -> tuple[list[str], str]:
    """The plain words among the patterns, unescaped, and the others as one alternation."""
    words, others = [], []
    for pattern in patterns:
        if _META.search(_ESCAPE.sub("", pattern)):
            others.append(f"(?:{pattern})")
        else:
            words.append(_ESCAPE.sub(r"\1", pattern))
    return words, "|".join(others)


_WORDS, _OTHERS = _split([each["pattern"] for each in crawleruseragents.CRAWLER_USER_AGENTS_DATA])


def are_crawlers(user_agents: pl.Series) -> pl.Series:
    """For each user agent, whether a pattern of the list matches it."""
    return user_agents.str.contains_any(_WORDS) | user_agents.str.contains(_OTHERS)
