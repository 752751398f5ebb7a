"""What browsers load: the merchant's page at `/`, its parts, and `footfall.js`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from litestar import Request, Router, get
from litestar.response import Response

from api.assets import TYPES, Asset, sent

# Nothing of the page's is written within it, and nothing is fetched from elsewhere.
_PAGE: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asks each time, and is told 304: an upgrade is seen at once
}
_SNIPPET: Final = {
    "Cross-Origin-Resource-Policy": "cross-origin",  # shops' pages load it
    "Cache-Control": "public, max-age=3600, stale-while-revalidate=86400",
}


def page_router(folders: Sequence[Path]) -> Router:
    """The routes of all files in `folders`; of files of one name the first is taken."""
    assets = {
        path.name: Asset.read(path)
        for folder in reversed(folders)
        for path in sorted(folder.iterdir())
        if path.suffix in TYPES
    }

    @get("/", include_in_schema=False)
    async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        return sent(request, assets.get("index.html"), _PAGE)

    @get("/page/{name:str}", include_in_schema=False)
    async def part(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
        return sent(request, assets.get(name), _PAGE)

    @get("/footfall.js", include_in_schema=False)
    async def snippet(request: Request[Any, Any, Any]) -> Response[bytes]:
        return sent(request, assets.get("footfall.js"), _SNIPPET)

    return Router("/", route_handlers=[page, part, snippet])
