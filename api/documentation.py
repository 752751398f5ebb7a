"""The description of the API as a page at /schema, whole without the internet."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import swagger_ui
from litestar import Request, get
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.response import Response

from api.assets import Asset, sent

_AT: Final = "/schema/assets"
_CSS: Final = "swagger-ui.css"
_BUNDLE: Final = "swagger-ui-bundle.js"
_PRESET: Final = "swagger-ui-standalone-preset.js"
_FOLDER: Final = Path(swagger_ui.__file__).parent / "static"
_NAMES: Final = (_CSS, _BUNDLE, _PRESET)
_CACHED: Final = {"Cache-Control": "public, max-age=3600"}


def page() -> SwaggerRenderPlugin:
    """The page itself."""
    return SwaggerRenderPlugin(
        js_url=f"{_AT}/{_BUNDLE}",
        css_url=f"{_AT}/{_CSS}",
        standalone_preset_js_url=f"{_AT}/{_PRESET}",
        path=["/", "/swagger"],
        favicon="<link rel='icon' href='data:,'>",
    )


@get(f"{_AT}/{{name:str}}", include_in_schema=False, sync_to_thread=True)
def part(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    """A file that the page loads."""
    return sent(request, _asset(name) if name in _NAMES else None, _CACHED)


@cache
def _asset(name: str) -> Asset:
    """Read and compressed at the first request: not every worker is asked for its documentation."""
    return Asset.read(_FOLDER / name)
