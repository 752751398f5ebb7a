"""Static files for browsers: read once, served from memory, 304 where the browser has them."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from litestar import Request
from litestar.response import Response

from api.problems import problem

TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
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
        return cls(body, gzip.compress(body, 9, mtime=0), etag, TYPES[path.suffix])


def sent(
    request: Request[Any, Any, Any], asset: Asset | None, headers: dict[str, str]
) -> Response[bytes]:
    """A file, compressed where the browser accepts gzip.

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
