"""What the API refuses, as one exception."""

from typing import Any

import msgspec


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """A refusal: `code` is stable, `detail` says how to mend the request.

    Attributes:
        status: of HTTP.
        code: such as `unknown_metric`; `unknown` where something else than Footfall answered.
        detail: a sentence.
        request_id: by which the server's log lines are found.
        retry_after: seconds, where the server said when to try again.
        body: everything else that the answer held.
    """

    def __init__(self, status: int, content: bytes, retry_after: float | None) -> None:
        self.status = status
        self.body = _members(content)
        self.code = str(self.body.get("code", "unknown"))
        self.detail = str(self.body.get("detail", "")) or f"The server answered {status}."
        self.request_id = self.body.get("request_id")
        self.retry_after = retry_after
        super().__init__(f"{status} {self.code}: {self.detail}")


def _members(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
