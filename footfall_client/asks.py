"""What can be asked: each question is a value that knows its request and how to read its answer."""

import gzip
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from footfall_client.answers import Answer, Sent

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Range = str | tuple[str, str]
MAX_EVENTS: Final = 1000
_PACK_FROM: Final = 1400  # bytes: less fits into one packet anyway


@dataclass(frozen=True, slots=True)
class Call:
    """A request, made ready once: every try sends the same bytes."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Ask(Protocol[T_co]):
    """A question and what reads its answer."""

    def call(self) -> Call:
        """The request."""

    def read(self, content: bytes) -> T_co:
        """The answer's body as a value."""


@dataclass(frozen=True, slots=True)
class Query:
    """The whole query language."""

    metrics: Sequence[str]
    date_range: Range = "28d"
    dimensions: Sequence[str] = ()
    filters: Sequence[Any] = ()
    merchant_id: int | None = None  # for operators' keys
    timezone: str | None = None
    currency: str | None = None
    order_by: Sequence[tuple[str, str]] = ()
    limit: int = 100
    cursor: str | None = None
    include: Mapping[str, Any] = field(default_factory=dict)

    def call(self) -> Call:
        """The request."""
        body = {name: value for name, value in asdict(self).items() if value is not None}
        return _posted("/v1/query", body)

    def read(self, content: bytes) -> Answer:
        """The answer's body as a value."""
        return msgspec.json.decode(content, type=Answer)


@dataclass(frozen=True, slots=True)
class _OfMerchant:
    """What the shorthands share."""

    merchant_id: int
    metrics: Sequence[str] = ()
    date_range: Range = "28d"
    timezone: str | None = None
    filters: Sequence[Any] = ()

    def _get(self, name: str, **more: Any) -> Call:
        text = isinstance(self.date_range, str)
        given = {
            "metrics": ",".join(self.metrics),
            "timezone": self.timezone,
            "filters": msgspec.json.encode(self.filters).decode() if self.filters else None,
            "date_range": self.date_range if text else None,
            "from": None if text else self.date_range[0],
            "to": None if text else self.date_range[1],
            **more,
        }
        params = {key: str(value) for key, value in given.items() if value not in (None, "")}
        return Call("GET", f"/v1/merchants/{self.merchant_id}/{name}", params)

    def read(self, content: bytes) -> Answer:
        """The answer's body as a value."""
        return msgspec.json.decode(content, type=Answer)


@dataclass(frozen=True, slots=True)
class Timeseries(_OfMerchant):
    """Metrics by minute, hour, day, week or month."""

    interval: str = "day"
    compare: str | None = None

    def call(self) -> Call:
        """The request."""
        return self._get("timeseries", interval=self.interval, compare=self.compare)


@dataclass(frozen=True, slots=True)
class Breakdown(_OfMerchant):
    """Metrics by a dimension; `order_by` is a column, with - before it for the largest first."""

    dimension: str = "page"
    order_by: str | None = None
    limit: int = 100
    cursor: str | None = None

    def call(self) -> Call:
        """The request."""
        return self._get(
            "breakdown",
            dimension=self.dimension,
            order_by=self.order_by,
            limit=self.limit,
            cursor=self.cursor,
        )


@dataclass(frozen=True, slots=True)
class Summary(_OfMerchant):
    """Totals of a range, with compare="previous_period" beside those of the period before."""

    compare: str | None = None

    def call(self) -> Call:
        """The request."""
        return self._get("summary", compare=self.compare)


@dataclass(frozen=True, slots=True)
class Raw(Generic[T]):
    """Any other path of the API, its answer as `kind`."""

    path: str
    kind: type[T]
    method: str = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    def call(self) -> Call:
        """The request."""
        if self.body is None:
            return Call(self.method, self.path, self.params)
        content = msgspec.json.encode(self.body)
        return Call(self.method, self.path, self.params, content, _JSON)

    def read(self, content: bytes) -> T:
        """The answer's body as a value."""
        return msgspec.json.decode(content, type=self.kind)


class Send:
    """Events, at most a thousand. Each has its id and its time from here on, so that a retry, even
    one made by asking the same `Send` again within a quarter of an hour, counts once."""

    def __init__(self, events: Sequence[Mapping[str, Any]], *, validate: bool = False) -> None:
        if not 1 <= len(events) <= MAX_EVENTS:
            raise ValueError(f"send 1 to {MAX_EVENTS} events at a time, not {len(events)}")
        self.events = [identified(event) for event in events]
        self._validate = validate

    def call(self) -> Call:
        """The request."""
        params = {"validate": "true"} if self._validate else {}
        return _posted("/v1/events", self.events, params)

    def read(self, content: bytes) -> Sent:
        """The answer's body as a value."""
        return msgspec.json.decode(content, type=Sent)


def identified(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with an id and a time, its own where it has them."""
    return {"event_id": uuid.uuid4().hex, "timestamp": int(time.time() * 1000), **event}


_JSON: Final = {"Content-Type": "application/json"}


def _posted(path: str, body: Any, params: Mapping[str, str] | None = None) -> Call:
    content = msgspec.json.encode(body)
    if len(content) < _PACK_FROM or path != "/v1/events":
        return Call("POST", path, params or {}, content, _JSON)
    packed = gzip.compress(content, 6, mtime=0)
    return Call("POST", path, params or {}, packed, {**_JSON, "Content-Encoding": "gzip"})
