"""Events out of CSV files: a mapping says which column is what and which name is which event.

A mapping is a JSON file:

    {
      "columns": {"visitor_id": "user_id", "event": "event", "timestamp": "timestamp"},
      "time_format": "%Y-%m-%d %H:%M:%S.%f",   as strptime reads it
      "timezone": "UTC",                       of times without an offset; UTC unless given
      "fields": {"country": "DE"},             of every event, unless its own say otherwise
      "events": {                              the file's name -> our event and its fields
        "buy": {"event": "purchase", "fields": {"order_id": "{user_id} {timestamp}"}}
      }
    }

`{column}` in a field's text stands for what the row holds there. A name that `events` does not
list becomes a custom event: "Add to wishlist!" is `add_to_wishlist`. Each row has an event_id made
from its place and its cells, so a file loaded again within the dedupe window counts once.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from backports.zstd import ZstdError

from events.check import EVENT_NAME, FIELDS, ORDER_EVENTS
from events.lines import opened

Fixed = dict[str, str | int | float]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
_MADE: Final = {"merchant_id", "event", "timestamp", "event_id", "visitor_id"}
_FIXABLE: Final = FIELDS - _MADE - {"items", "properties"}
_NAME_LENGTH: Final = 64


class MappingError(Exception):
    """A mapping or a file that cannot be used; the sentence says where and why."""


class Columns(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which columns hold what every event needs."""

    visitor_id: str
    event: str
    timestamp: str


class Target(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What an event's name in the file becomes."""

    event: str
    fields: Fixed = {}


class Mapping(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How to read one kind of CSV file."""

    columns: Columns
    time_format: str
    timezone: str = "UTC"
    fields: Fixed = {}
    events: dict[str, Target] = {}

    def needed(self) -> set[str]:
        """The columns that a file must have."""
        fixed = [self.fields, *(target.fields for target in self.events.values())]
        texts = [str(text) for fields in fixed for text in fields.values()]
        named = {name for text in texts for name in _PLACEHOLDER.findall(text)}
        return named | {self.columns.visitor_id, self.columns.event, self.columns.timestamp}


def built_in() -> list[str]:
    """The names of the mappings that come with Footfall."""
    folder = files("footfall") / "mappings"
    return sorted(
        entry.name.removesuffix(".json")
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    )


def find(name: str) -> Mapping:
    """A built-in mapping by its name, or one from a file.

    Raises:
        MappingError: there is none, or it is not a mapping.
    """
    if name in built_in():
        return parse((files("footfall") / "mappings" / f"{name}.json").read_bytes(), name)
    try:
        return parse(Path(name).read_bytes(), name)
    except FileNotFoundError as error:
        raise MappingError(
            f"there is no mapping {name!r}: neither a file nor one of {', '.join(built_in())}"
        ) from error
    except OSError as error:
        raise MappingError(f"mapping {name} cannot be read: {error.strerror}") from error


def parse(raw: bytes, name: str) -> Mapping:
    """A mapping out of its JSON.

    Raises:
        MappingError: it is not one, or the events that it makes would be rejected.
    """
    try:
        mapping = msgspec.json.decode(raw, type=Mapping)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"mapping {name}: {error}") from error
    try:
        ZoneInfo(mapping.timezone)
    except (KeyError, OSError, ValueError) as error:  # unknown, or not a name at all
        raise MappingError(f"mapping {name}: no time zone {mapping.timezone!r}") from error
    for target in (Target("any"), *mapping.events.values()):
        fixed = mapping.fields | target.fields
        unfit = sorted(fixed.keys() - _FIXABLE)
        if unfit:
            raise MappingError(f"mapping {name}: fields cannot set {', '.join(unfit)}")
        if not EVENT_NAME.match(target.event):
            raise MappingError(f"mapping {name}: {target.event!r} is not an event's name")
        if target.event in ORDER_EVENTS and "order_id" not in fixed:
            raise MappingError(f"mapping {name}: {target.event} needs the field order_id")
    return mapping


def custom_name(name: str) -> str:
    """A custom event's name out of any text; empty where nothing of it can stay."""
    kept = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return (kept if not kept[:1].isdigit() else f"event_{kept}")[:_NAME_LENGTH]


@dataclass(slots=True)
class Source:
    """The events of one CSV file, plain, .gz or .zst, for one merchant."""

    path: Path
    mapping: Mapping
    merchant_id: int
    _targets: dict[str, Target] = field(default_factory=dict, init=False)

    def check(self) -> int:
        """Read the whole file and send nothing; how many events it holds.

        Raises:
            MappingError: the file cannot be read as the mapping says.
        """
        if not self.path.is_file():
            raise MappingError(f"{self.path}: not a plain file, and it must be read twice")
        return sum(1 for _ in self.messages())

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Each row's event, with its key.

        Raises:
            MappingError: the file cannot be read as the mapping says.
        """
        self._targets = dict(self.mapping.events)
        key = str(self.merchant_id).encode()
        zone = ZoneInfo(self.mapping.timezone)
        encode = msgspec.json.Encoder().encode
        for number, (line, row) in enumerate(self._rows(), 1):
            try:
                yield key, encode(self._event(number, row, zone))
            except (ValueError, OverflowError) as error:
                raise MappingError(f"{self.path}, line {line}: {error}") from error

    def _rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Each row with the number of its last line."""
        line = 0
        try:
            with (
                opened(self.path) as file,
                io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text,
            ):
                reader = csv.reader(text, strict=True)
                header = self._header(next(reader, []))
                for cells in reader:
                    line = reader.line_num
                    if not cells:
                        continue
                    if len(cells) != len(header):
                        raise MappingError(
                            f"{self.path}, line {line}: "
                            f"{len(cells)} cells, but {len(header)} columns"
                        )
                    yield line, dict(zip(header, cells, strict=True))
        except (csv.Error, UnicodeDecodeError, OSError, EOFError, ZstdError) as error:
            raise MappingError(f"{self.path}, after line {line}: {error}") from error

    def _header(self, names: list[str]) -> list[str]:
        missing = sorted(self.mapping.needed() - set(names))
        if missing:
            raise MappingError(
                f"{self.path} has no column {', '.join(missing)}; "
                f"its columns are {', '.join(names) or 'none'}"
            )
        return names

    def _event(self, number: int, row: dict[str, str], zone: ZoneInfo) -> Fixed:
        columns = self.mapping.columns
        target = self._target(row[columns.event])
        return {
            **_filled(self.mapping.fields | target.fields, row),
            "merchant_id": self.merchant_id,
            "event": target.event,
            "timestamp": _epoch_ms(row[columns.timestamp], self.mapping.time_format, zone),
            "event_id": _event_id(number, row),
            "visitor_id": row[columns.visitor_id],
        }

    def _target(self, name: str) -> Target:
        target = self._targets.get(name)
        if target is None:
            custom = custom_name(name)
            if not custom:
                raise ValueError(f"the event's name {name!r} has no letter a-z: map it in events")
            target = self._targets[name] = Target(custom)
        return target


def _filled(fixed: Fixed, row: dict[str, str]) -> Fixed:
    return {
        name: _PLACEHOLDER.sub(lambda found: row[found[1]], text) if isinstance(text, str) else text
        for name, text in fixed.items()
    }


def _epoch_ms(text: str, time_format: str, zone: ZoneInfo) -> int:
    moment = datetime.strptime(text, time_format)  # noqa: DTZ007 - its zone follows
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return (moment - _EPOCH) // _MS


def _event_id(number: int, row: dict[str, str]) -> str:
    """The same for the same row at the same place, and no other's."""
    cells = msgspec.json.encode([number, *row.values()])
    return blake2b(cells, digest_size=16).hexdigest()
