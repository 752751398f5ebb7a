"""Device, browser and operating system of a user agent, and whether it is a bot.

By ua-parser's rules and the crawler-user-agents list. A distinct string is parsed once.
"""

from dataclasses import dataclass
from typing import Final

import crawleruseragents
import ua_parser

CACHE_ENTRIES: Final = 100_000

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
    """A bounded memory of user agents that were parsed before."""

    def __init__(self) -> None:
        self._known: dict[str, Agent] = {}

    def of(self, user_agent: str) -> Agent:
        """The agent behind one string."""
        known = self._known.get(user_agent)
        if known is None:
            if len(self._known) >= CACHE_ENTRIES:
                self._known.clear()
            known = self._known[user_agent] = parse(user_agent)
        return known


def parse(user_agent: str) -> Agent:
    """Parse one string, without a cache."""
    if crawleruseragents.is_crawler(user_agent):
        return BOT
    found = ua_parser.parse(user_agent)
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
