"""Where a visit came from: source, channel and campaign of an event.

Source: utm_source, else the click id's network, else the referrer's site, else direct. The shop's
own domain and payment hosts are no source. Channel: the first rule that matches.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

import tldextract

from events.cache import BoundedCache, size_of

CLICK_IDS: Final = {
    "gclid": "google",
    "msclkid": "bing",
    "fbclid": "facebook",
    "ttclid": "tiktok",
    "twclid": "twitter",
    "li_fat_id": "linkedin",
}
_PAID_CLICK_IDS: Final = frozenset({"gclid", "msclkid", "ttclid", "twclid", "li_fat_id"})

SEARCH: Final = frozenset(
    "google bing yahoo duckduckgo baidu yandex ecosia qwant startpage naver seznam brave "
    "sogou ask aol dogpile".split()
)
SOCIAL: Final = frozenset(
    "facebook instagram twitter x linkedin pinterest tiktok reddit tumblr threads snapchat "
    "whatsapp telegram mastodon bluesky quora vk weibo discord messenger".split()
)
VIDEO: Final = frozenset("youtube vimeo twitch dailymotion netflix hulu disneyplus".split())
SHOPPING: Final = frozenset(
    "amazon ebay etsy walmart alibaba aliexpress idealo shopzilla pricegrabber shopping "
    "google_shopping temu zalando mercadolibre".split()
)
ASSISTANTS: Final = frozenset(
    "chatgpt openai claude perplexity gemini copilot deepseek mistral grok you".split()
)
PAYMENT: Final = frozenset(
    "paypal stripe klarna adyen mollie checkout worldpay sofort giropay ideal afterpay clearpay "
    "affirm braintreegateway authorize squareup pay payu razorpay alipay".split()
)
_NAMES: Final = {
    "t.co": "twitter",
    "x.com": "twitter",
    "fb.com": "facebook",
    "fb.me": "facebook",
    "youtu.be": "youtube",
    "lnkd.in": "linkedin",
    "pin.it": "pinterest",
    "redd.it": "reddit",
    "chatgpt.com": "chatgpt",
    "openai.com": "chatgpt",
    "claude.ai": "claude",
    "perplexity.ai": "perplexity",
    "brave.com": "brave",
    "bsky.app": "bluesky",
    "wa.me": "whatsapp",
    "t.me": "telegram",
}
_HOSTS: Final = {
    "gemini.google.com": "gemini",
    "copilot.microsoft.com": "copilot",
    "search.brave.com": "brave",
    "mail.google.com": "gmail",
}
_PAID_MEDIUM: Final = re.compile(r"^(.*cp.*|ppc|retargeting|paid.*)$")
_EMAIL: Final = re.compile(r"e?-?_? ?mail")
_domain = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


@dataclass(frozen=True, slots=True)
class Origin:
    """Source and channel of an event."""

    source: str
    channel: str


class Causes(NamedTuple):
    """What decides an event's origin; hosts in lower case."""

    utm_source: str | None
    utm_medium: str | None
    utm_campaign: str | None
    click_id: str | None  # the parameter's name
    referrer_host: str | None
    own_host: str | None


_CACHE_ENTRIES: Final = 100_000
_CACHE_BYTES: Final = 32 << 20
_domains: BoundedCache[str, str] = BoundedCache(_CACHE_ENTRIES, _CACHE_BYTES)
_origins: BoundedCache[Causes, Origin] = BoundedCache(_CACHE_ENTRIES, _CACHE_BYTES)


def registrable_domain(host: str) -> str:
    """example.co.uk of shop.example.co.uk; an address or a lone name is its own.

    Where the list of public suffixes knows none, the last label is one (its prevailing rule).
    """
    domain = _domains.get(host)
    if domain is None:
        domain = _registrable_domain(host)
        _domains.put(host, domain, size_of(host, domain))
    return domain


def _registrable_domain(host: str) -> str:
    known = _domain(host)
    if known.top_domain_under_public_suffix or known.ipv4 or known.ipv6:
        return known.top_domain_under_public_suffix or host
    return ".".join(host.split(".")[-2:])


def origin(causes: Causes) -> Origin:
    """Source and channel of an event with these causes."""
    decided = _origins.get(causes)
    if decided is None:
        decided = _origin(causes)
        _origins.put(causes, decided, size_of(*causes, decided.source))
    return decided


def _origin(causes: Causes) -> Origin:
    referring = _referring_site(causes.referrer_host, causes.own_host)
    if causes.utm_source:
        source = causes.utm_source.lower()
    elif causes.click_id:
        source = CLICK_IDS[causes.click_id]
    else:
        source = referring or "direct"
    return Origin(source, _channel(source, causes))


def _referring_site(host: str | None, own_host: str | None) -> str | None:
    if not host:
        return None
    domain = registrable_domain(host)
    if own_host and domain == registrable_domain(own_host):
        return None
    name = _HOSTS.get(host) or _NAMES.get(domain)
    if name is None:
        label = domain.split(".", 1)[0]
        known = SEARCH | SOCIAL | VIDEO | SHOPPING | ASSISTANTS
        if label in PAYMENT:
            return None
        name = label if label in known else domain
    return name


def _channel(source: str, causes: Causes) -> str:
    medium = (causes.utm_medium or "").lower()
    campaign = (causes.utm_campaign or "").lower()
    by_site = _site_kind(source)
    if causes.click_id in _PAID_CLICK_IDS or _PAID_MEDIUM.match(medium):
        return f"Paid {by_site}" if by_site else ("Display" if medium in _DISPLAY else "Paid Other")
    if medium in _DISPLAY:
        return "Display"
    if source in ASSISTANTS:
        return "AI Assistants"
    if by_site == "Shopping" or re.match(r"^(.*(([^a-df-z]|^)shop|shopping).*)$", campaign):
        return "Organic Shopping"
    if by_site == "Social" or medium in _SOCIAL_MEDIA:
        return "Organic Social"
    if by_site == "Video" or "video" in medium:
        return "Organic Video"
    if by_site == "Search" or medium == "organic":
        return "Organic Search"
    tagged = bool(causes.utm_source or causes.utm_medium or causes.click_id)
    return _other_channel(source, medium, tagged)


_DISPLAY: Final = frozenset({"display", "banner", "expandable", "interstitial", "cpm"})
_SOCIAL_MEDIA: Final = frozenset(
    {"social", "social-network", "social-media", "sm", "social network", "social media"}
)


def _other_channel(source: str, medium: str, tagged: bool) -> str:
    if _EMAIL.search(source) or _EMAIL.search(medium):
        return "Email"
    if medium == "affiliate":
        return "Affiliates"
    if source == "sms" or medium == "sms":
        return "SMS"
    if medium == "audio":
        return "Audio"
    if medium.endswith("push") or "mobile" in medium or "notification" in medium:
        return "Push"
    if source == "direct":
        return "Direct"
    if not tagged or medium in {"referral", "app", "link"}:
        return "Referral"
    return "Unassigned"


def _site_kind(source: str) -> str | None:
    for kind, sites in (
        ("Search", SEARCH),
        ("Social", SOCIAL),
        ("Video", VIDEO),
        ("Shopping", SHOPPING),
    ):
        if source in sites:
            return kind
    return None
