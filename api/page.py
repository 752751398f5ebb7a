"""What browsers load: the merchant's page at `/`, its parts, and `footfall.js`. All of it is read
once, held ready in memory, and answered with 304 to whoever has it already."""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from litestar import Request, Router, get
from litestar.response import Response

from api.problems import problem

_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
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


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    packed: bytes
    etag: str
    kind: str

    @classmethod
    def read(cls, path: Path) -> "Asset":
        """From disk."""
        body = path.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        return cls(body, gzip.compress(body, 9, mtime=0), etag, _TYPES[path.suffix])


def page_router(folders: Sequence[Path]) -> Router:
    """The routes of all files in `folders`; of files of one name the first is taken."""
    assets = {
        path.name: Asset.read(path)
        for folder in reversed(folders)
        for path in sorted(folder.iterdir())
        if path.suffix in _TYPES
    }

    @get("/", include_in_schema=False)
    async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _sent(request, assets.get("index.html"), _PAGE)

    @get("/page/{name:str}", include_in_schema=False)
    async def part(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
        return _sent(request, assets.get(name), _PAGE)

    @get("/footfall.js", include_in_schema=False)
    async def snippet(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _sent(request, assets.get("footfall.js"), _SNIPPET)

    return Router("/", route_handlers=[page, part, snippet])


def _sent(
    request: Request[Any, Any, Any], asset: Asset | None, headers: dict[str, str]
) -> Response[bytes]:
    """A file, packed for whoever can unpack it.

    Raises:
        ProblemDetailsException: 404, there is no such file.
    """
    if asset is None:
        raise problem(404, "not_found", "There is no such file.")
    told = {**headers, "ETag": asset.etag, "Vary": "Accept-Encoding"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=told)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            asset.packed, media_type=asset.kind, headers={**told, "Content-Encoding": "gzip"}
        )
    return Response(asset.body, media_type=asset.kind, headers=told)
