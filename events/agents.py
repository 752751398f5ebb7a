"""Device, browser and operating system of a user agent, and whether it is a bot.

By ua-parser's rules and the crawler-user-agents list. The cost of a distinct user agent is
bounded, whatever it holds: only its first characters are matched, by engines that never backtrack.
So no budget per batch is needed, and the result depends on the text alone, live and on replay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl
from ua_parser import Domain, load_lazy_builtins
from ua_parser.regex import Resolver

from events.cache import BoundedCache, size_of
from events.crawlers import are_crawlers

# Crawlers' agents have at most 285 characters in the list, in-app browsers' up to about 450.
MATCHED_CHARACTERS: Final = 512
CACHE_ENTRIES: Final = 100_000
CACHE_BYTES: Final = 32 << 20

_TABLET = ("ipad", "tablet", "kindle", "silk/", "playbook")
_TV = ("smart-tv", "smarttv", "appletv", "apple tv", "googletv", "hbbtv", "roku", "bravia", "tv ")
_MOBILE = ("mobi", "iphone", "ipod", "android")
_DESKTOP_OS = frozenset(
    {"Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "FreeBSD", "Debian"}
)


@dataclass(frozen=True, slots=True)
class Agent:
    """What a user agent tells. `device` is one of desktop, mobile, tablet, tv, bot, unknown."""

    device: str
    browser: str | None
    os: str | None


UNKNOWN: Final = Agent("unknown", None, None)
BOT: Final = Agent("bot", None, None)


class Agents:
    """A cache of parsed user agents."""

    def __init__(self) -> None:
        self._cache: BoundedCache[str, Agent] = BoundedCache(CACHE_ENTRIES, CACHE_BYTES)

    def of(self, user_agents: Sequence[str]) -> list[Agent]:
        """The agent behind each text."""
        cut = [text[:MATCHED_CHARACTERS] for text in user_agents]
        known = {text: self._cache.get(text) for text in cut}
        new = [text for text, agent in known.items() if agent is None]
        for text, agent in zip(new, parse_all(new), strict=True):
            self._cache.put(text, agent, size_of(text, agent.browser, agent.os))
            known[text] = agent
        return [known[text] or UNKNOWN for text in cut]


def parse(user_agent: str) -> Agent:
    """Parse one user agent, without a cache."""
    return parse_all([user_agent])[0]


def parse_all(user_agents: Sequence[str]) -> list[Agent]:
    """Parse distinct user agents, without a cache: the crawlers in one pass over all."""
    if not user_agents:
        return []
    texts = pl.Series(user_agents, dtype=pl.String).str.slice(0, MATCHED_CHARACTERS)
    bots = are_crawlers(texts)
    return [
        BOT if bot else _parse_browser(text)
        for text, bot in zip(texts.to_list(), bots.to_list(), strict=True)
    ]


@cache
def resolver() -> Resolver:
    """ua-parser on Rust's regex engine; it is an error if that is not installed."""
    return Resolver(load_lazy_builtins())


def _parse_browser(user_agent: str) -> Agent:
    found = resolver()(user_agent, Domain.USER_AGENT | Domain.OS)
    browser = found.user_agent.family if found.user_agent else None
    system = found.os.family if found.os else None
    return Agent(_device(user_agent.lower(), system), browser, system)


def _device(lowered: str, system: str | None) -> str:
    if any(word in lowered for word in _TV):
        return "tv"
    android_tablet = "android" in lowered and "mobile" not in lowered
    if android_tablet or any(word in lowered for word in _TABLET):
        return "tablet"
    if any(word in lowered for word in _MOBILE):
        return "mobile"
    return "desktop" if system in _DESKTOP_OS else "unknown"
