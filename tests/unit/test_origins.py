"""Origins are taken as browsers write them, and for public keys alone."""

import pytest

from db.origins import OriginError, checked_origins

WRITE = ["events:write"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://shop.example", "https://shop.example"),
        (" HTTPS://Shop.Example/ ", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://xn--tee-ema.example", "https://xn--tee-ema.example"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(given: str, kept: str) -> None:
    assert checked_origins([given, given], WRITE) == (kept,)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "*",
        "null",
        "shop.example",
        "https://",
        "https://shop.example/path",
        "ftp://shop.example",
        "https://*.shop.example",
        "https://a@shop.example",
        "https://shop.example:0",
        "https://é.fr",
        "https://shop.example, https://b.example",
        "https://-shop.example",
    ],
)
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(OriginError, match="is no origin"):
        checked_origins([given], WRITE)


@pytest.mark.parametrize("scopes", [["stats:read"], ["events:write", "stats:read"], ["admin"], []])
def test_a_key_for_browsers_can_only_send(scopes: list[str]) -> None:
    with pytest.raises(OriginError, match="events:write and no other"):
        checked_origins(["https://shop.example"], scopes)
    assert checked_origins([], scopes) == ()
