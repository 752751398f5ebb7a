"""Puts into a wheel what browsers load and the repository does not hold."""

import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BrowserFiles(BuildHookInterface[Any]):
    """A wheel serves the page without npm; an editable install makes the files at first need."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before the wheel is written."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from page.files import built  # noqa: PLC0415 - found by the line before
        from stack.npm import say_to_stderr  # noqa: PLC0415

        build_data["force_include"][str(built(say_to_stderr))] = "page/built"
