"""What a user agent is costs little, whatever it holds, and is the same warm or cold."""

import random
import re

import crawleruseragents
import polars as pl
import pytest
from ua_parser import Domain

from events import agents, crawlers
from events.agents import BOT, CACHE_BYTES, CACHE_ENTRIES, MATCHED_CHARACTERS, Agents, parse
from events.cache import BoundedCache, size_of
from events.crawlers import are_crawlers
from tests.unit.messages import CHROME, GOOGLEBOT, IPHONE

LISTED = crawleruseragents.CRAWLER_USER_AGENTS_DATA
INSTANCES = sorted({text for each in LISTED for text in each.get("instances", [])})
ORDINARY = [CHROME, IPHONE, "", " ", "Mozilla/5.0", "x", "ü" * 60, "AdsBot-Google-", "a/b.c+d"]


def test_every_instance_of_the_list_gets_the_verdict_of_the_package() -> None:
    texts = [*INSTANCES, *ORDINARY, *(text[: len(text) // 2] for text in INSTANCES)]
    wanted = [crawleruseragents.is_crawler(text) for text in texts]
    assert are_crawlers(pl.Series(texts)).to_list() == wanted
    assert sum(wanted) > 2000


def test_every_pattern_alone_finds_what_python_finds() -> None:
    for each in LISTED:
        words, others = crawlers._split([each["pattern"]])
        found = [text for text in INSTANCES if re.search(each["pattern"], text)]
        texts = pl.Series(found, dtype=pl.String)
        hits = texts.str.contains_any(words) if words else texts.str.contains(others)
        assert hits.all(), each["pattern"]


def test_no_listed_crawler_is_longer_than_what_is_matched() -> None:
    assert max(map(len, INSTANCES)) <= MATCHED_CHARACTERS


def hostile_agents(count: int) -> list[str]:
    """Distinct user agents of 2,048 characters, made of the words that the rules look for."""
    words = ["Spider", "Current", "ContextualBo", "Mozilla/5.0 (", "Safari/", "Android ", "1.", "é"]
    random_ = random.Random(5)
    return [
        (f"{number} " + "".join(random_.choices(words, k=700)))[:2048] for number in range(count)
    ]


class Work:
    """Counts the characters that each engine is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.crawlers = self.browsers = self.longest = 0
        matched, resolve = are_crawlers, agents.resolver()

        def counting(texts: pl.Series) -> pl.Series:
            self.crawlers += int(texts.str.len_chars().sum())
            self.longest = max(self.longest, *texts.str.len_chars().to_list())
            return matched(texts)

        def resolver(text: str, domains: Domain) -> object:
            self.browsers += len(text)
            self.longest = max(self.longest, len(text))
            return resolve(text, domains)

        monkeypatch.setattr(agents, "are_crawlers", counting)
        monkeypatch.setattr(agents, "resolver", lambda: resolver)


def test_ten_thousand_hostile_agents_are_matched_once_and_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work, known = Work(monkeypatch), Agents()
    hostile = hostile_agents(10_000)
    first = known.of(hostile)
    limit = 10_000 * MATCHED_CHARACTERS
    assert work.longest <= MATCHED_CHARACTERS
    assert 0 < work.crawlers <= limit
    assert 0 < work.browsers <= limit
    before = work.crawlers, work.browsers
    assert known.of([*hostile, *(text + " and more" for text in hostile)]) == first * 2
    assert (work.crawlers, work.browsers) == before


def test_an_agent_does_not_depend_on_its_batch_or_the_cache() -> None:
    texts = [*hostile_agents(50), *INSTANCES[:200], *ORDINARY]
    alone = [parse(text) for text in texts]
    warm = Agents()
    assert warm.of(texts) == alone
    assert warm.of(list(reversed(texts))) == list(reversed(alone))
    assert Agents().of([]) == []


def test_what_follows_the_matched_characters_counts_for_nothing() -> None:
    padded = CHROME + " " * (MATCHED_CHARACTERS - len(CHROME))
    assert parse(padded + GOOGLEBOT) == parse(padded) != BOT


def test_the_cache_is_bounded_by_bytes_before_entries() -> None:
    known = Agents()
    for start in range(0, 40_000, 5_000):
        known.of([f"{number} " + "🎉" * 600 for number in range(start, start + 5_000)])
        assert known._cache.bytes <= CACHE_BYTES
        assert len(known._cache) < 40_000 < CACHE_ENTRIES


def test_a_cache_counts_at_least_the_bytes_of_its_texts() -> None:
    cache: BoundedCache[str, str] = BoundedCache(3, 10_000)
    for number in range(10):
        cache.put(f"k{number}", "v", size_of(f"k{number}", "v"))
        assert len(cache) <= 3
        assert cache.get(f"k{number}") == "v"
    cache.put("k", "v" * 5_000, size_of("k", "v" * 5_000))
    cache.put("l", "v" * 5_000, size_of("l", "v" * 5_000))
    assert cache.get("k") is None
    assert 5_000 < cache.bytes <= 10_000
    cache.put("m", "v" * 20_000, size_of("m", "v" * 20_000))
    assert cache.bytes <= 10_000
