"""From raw messages to typed columns: every event that keeps the contract, and every reject.

The columnar pass may be stricter than the contract, never laxer: what it does not understand is
looked at row by row (`events.check`), and what is right after all is written again in the plainest
form and goes through the columns once more. So both ways give one verdict.
"""

import io
from collections import deque
from dataclasses import dataclass
from itertools import compress, repeat
from operator import attrgetter, contains, length_hint
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from events.amounts import PRICE_UNITS, in_price_units
from events.batch import REJECT_SCHEMA, Messages
from events.check import (
    MAX_ITEMS,
    MAX_MERCHANT_ID,
    MAX_PROPERTIES,
    MAX_PROPERTIES_BYTES,
    MAX_QUANTITY,
    ORDER_EVENTS,
    TEXT_LIMITS,
    Event,
    Id,
    Rejection,
    check,
    encode,
    identity_of,
)
from events.countries import COUNTRIES
from events.limits import EARLIEST_LOG_MS, LATEST_LOG_MS, Limits
from events.money import EXPONENTS, MAX_AMOUNT
from events.odd_lines import odd_lines
from events.partitions import partitions_of
from events.privacy import redact
from events.reasons import Reason
from events.repeated_keys import first_of

ITEM = pl.Struct({"product_id": pl.String, "quantity": pl.Int64, "price": pl.String})
SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "merchant_id": pl.Int64,
    "event": pl.String,
    "timestamp": pl.String,
    "event_id": pl.String,
    "visitor_id": pl.String,
    "session_id": pl.String,
    "url": pl.String,
    "referrer": pl.String,
    "user_agent": pl.String,
    "ip": pl.String,
    "country": pl.String,
    "value": pl.String,
    "currency": pl.String,
    "order_id": pl.String,
    "product_id": pl.String,
    "quantity": pl.Int64,
    "items": pl.List(ITEM),
    "properties": pl.String,
    "sent_by": pl.String,
}
_TEXT: Final = (*TEXT_LIMITS, "event", "country", "currency")
_OPENS: Final = (b"{", b" ", b"\t", b"\r")  # an object, or blanks before it
_CHUNK: Final = 256  # lines that are looked at one by one because one of them is broken
_NAIVE: Final = "%Y-%m-%dT%H:%M:%S%.f"
_ZONED: Final = "%Y-%m-%dT%H:%M:%S%.f%:z"


class _Properties(msgspec.Struct):
    properties: msgspec.Raw = msgspec.Raw(b"null")


_properties = msgspec.json.Decoder(_Properties).decode
_raw_properties = attrgetter("properties")
_event = msgspec.json.Decoder(Event).decode


@dataclass(frozen=True, slots=True)
class Decoded:
    """Columns of the contract's fields for the accepted events, and the rejects.

    `events` has `place` (index into the batch) and `ts_ms` beside the contract's fields, and
    `properties` as the JSON text that was sent.
    """

    events: pl.DataFrame
    rejects: pl.DataFrame


def decode(messages: Messages, limits: Limits) -> Decoded:
    """Decode a batch; never raises for what a message holds."""
    lines = [value or b"" for value in messages.values]  # a tombstone becomes an empty line
    frame, unread = _read(messages, np.arange(len(messages)), lines)
    good, doubtful = _sift(frame, limits)
    suspects = np.sort(np.concatenate([unread, doubtful]))
    frames = [good]
    rejections: list[tuple[int, Rejection]] = []
    if suspects.size:
        mended: list[tuple[int, bytes]] = []
        for place in suspects.tolist():
            verdict = check(
                messages.values[place], now_ms=int(messages.logged_ms[place]), limits=limits
            )
            if isinstance(verdict, Rejection):
                rejections.append((place, verdict))
            else:
                mended.append((place, plainest(verdict)))
        if mended:
            places = np.array([place for place, _ in mended])
            again, refused = _read(messages, places, [line for _, line in mended], checked=True)
            frames.append(again)
            rejections += [(place, _NOT_UNDERSTOOD) for place in refused.tolist()]
    events = pl.concat(frames).sort("place") if len(frames) > 1 else good
    if limits.partitions is not None:
        events, astray = _astray(events, messages, limits.partitions)
        rejections += astray
    return Decoded(events, _reject_frame(messages, rejections))


def _astray(
    events: pl.DataFrame, messages: Messages, partitions: int
) -> tuple[pl.DataFrame, list[tuple[int, Rejection]]]:
    """Events in the partition of their merchant, and rejections of the others, which no question
    about the merchant would find."""
    places = events.get_column("place").to_numpy()
    right = partitions_of(events.get_column("merchant_id").to_numpy(), partitions)
    wrong = messages.partitions[places] != right
    if not wrong.any():
        return events, []
    known = events.filter(wrong).select("place", "merchant_id", "event_id", "ts_ms").rows()
    detail = "merchant {}'s partition is {}: is the producer's partitioner murmur2_random?"
    rejections = [
        (
            place,
            Rejection(
                Reason.WRONG_PARTITION,
                "merchant_id",
                detail.format(merchant, partition),
                merchant,
                event_id,
                ts_ms,
            ),
        )
        for (place, merchant, event_id, ts_ms), partition in zip(
            known, right[wrong].tolist(), strict=True
        )
    ]
    return events.filter(~wrong), rejections


_NOT_UNDERSTOOD: Final = Rejection(Reason.INVALID, None, "a value that the columns do not hold")


def plainest(event: Event) -> bytes:
    """The event in the form that the columns understand best: text as text, money in decimals."""
    for name in _TEXT:
        setattr(event, name, _as_text(getattr(event, name)))
    event.value = _as_amount(event.value)
    for item in event.items or []:
        item.product_id = _as_text(item.product_id)
        item.price = _as_amount(item.price)
    return encode(event)


def _as_text(value: Id | None) -> str | None:
    return value if value is None or isinstance(value, str) else encode(value).decode()


def _as_amount(value: str | float | None) -> str | float | None:
    return f"{value:.4f}" if isinstance(value, float) else value


def _read(
    messages: Messages, places: np.ndarray, lines: list[bytes], *, checked: bool = False
) -> tuple[pl.DataFrame, np.ndarray]:
    """The lines as typed columns, and the places of those that cannot be read.

    Args:
        checked: the lines were written by `plainest`, so none of them is odd.
    """
    frame, unread = _parse(lines, checked=checked)
    kept = np.delete(places, unread) if unread.size else places
    if unread.size:
        dropped = set(unread.tolist())
        lines = [line for at, line in enumerate(lines) if at not in dropped]
    frame = frame.with_columns(
        pl.Series("place", kept, pl.Int64),
        pl.Series("logged_ms", messages.logged_ms[kept], pl.Int64),
    )
    frame = _with_properties(frame, lines)
    return frame.with_columns(_epoch_ms(frame)), places[unread]


def _sift(frame: pl.DataFrame, limits: Limits) -> tuple[pl.DataFrame, np.ndarray]:
    """The rows that certainly keep every rule, and the places of the others."""
    keeps = frame.select(_keeps_the_rules(frame, limits).fill_null(value=False)).to_series()
    if keeps.all():
        return frame, np.empty(0, np.int64)
    return frame.filter(keeps), frame.filter(~keeps).get_column("place").to_numpy()


def _parse(lines: list[bytes], *, checked: bool) -> tuple[pl.DataFrame, np.ndarray]:
    """Parse strictly, without odd lines. Where that fails, leave out what no reader understands,
    and where even that fails, the smallest pieces that cannot be parsed."""
    joined = b"\n".join(lines)
    odd = np.empty(0, np.int64) if checked else odd_lines(lines, joined)
    if odd.size:
        others = np.delete(np.arange(len(lines)), odd)
        frame, left = _parse([lines[at] for at in others.tolist()], checked=True)
        return frame, np.sort(np.concatenate([odd, others[left]]))
    whole = _parse_strictly(joined, len(lines))
    if whole is not None:
        return whole, np.empty(0, np.int64)
    del joined  # its memory is used again for what is readable
    unread = _unreadable(lines)
    readable = np.delete(np.arange(len(lines)), unread)
    frame, left = _parse_in_pieces([lines[at] for at in readable.tolist()])
    return frame, np.sort(np.concatenate([unread, readable[left]]))


def _unreadable(lines: list[bytes]) -> npt.NDArray[np.int64]:
    """The places of lines that no reader understands. For batches of which one line cannot be
    parsed: half a microsecond a line, where finding it by parsing halves would take twenty."""
    unread = set(compress(range(len(lines)), map(contains, lines, repeat(b"\n"))))
    left = iter(lines)
    events = map(_event, left)  # goes on with the next line after one that raised
    while True:
        try:
            deque(events, maxlen=0)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            unread.add(len(lines) - length_hint(left) - 1)
        else:
            return np.array(sorted(unread), np.int64)


def _parse_in_pieces(lines: list[bytes]) -> tuple[pl.DataFrame, np.ndarray]:
    whole = _parse_strictly(b"\n".join(lines), len(lines))
    if whole is not None:
        return whole, np.empty(0, np.int64)
    if len(lines) <= 1:
        return pl.DataFrame(schema=SCHEMA), np.arange(len(lines))
    step = _CHUNK if len(lines) > _CHUNK else max(1, len(lines) // 8)
    frames, unread = [], []
    for start in range(0, len(lines), step):
        frame, left = _parse_in_pieces(lines[start : start + step])
        frames.append(frame)
        unread.append(left + start)
    return pl.concat(frames), np.concatenate(unread)


def _parse_strictly(joined: bytes, count: int) -> pl.DataFrame | None:
    """The lines as a frame of as many rows, or None where a line cannot be parsed."""
    if joined.count(b"\n") != count - 1:
        return None
    # What begins as gzip or zstd does, the parser would unpack, or raise as for a broken file.
    if joined[:1] not in _OPENS:
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(joined), schema=SCHEMA)
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
        return None
    # Blank lines are passed over by the parser: the rows would no longer stand for the messages.
    # The parser returns a chunk for each few thousand lines; later steps are faster on one.
    return frame.rechunk() if frame.height == count else None


def _with_properties(frame: pl.DataFrame, lines: list[bytes]) -> pl.DataFrame:
    """Replace `properties` by the bytes that were sent: the parser would not escape them again."""
    given = frame.get_column("properties").is_not_null().arg_true()
    if given.is_empty():
        return frame
    whole = [first_of(lines[at], b'"properties"') for at in given.to_list()]
    raws = list(map(_raw_properties, map(_properties, whole)))
    texts = pl.Series("properties", list(map(bytes, raws)), pl.Binary).cast(pl.String)
    return frame.with_columns(pl.lit(None, pl.String).alias("properties")).with_columns(
        frame.get_column("properties").scatter(given, texts)
    )


def _epoch_ms(frame: pl.DataFrame) -> pl.Series:
    """Event time as epoch milliseconds; log time where none was given, null where unreadable."""
    texts = frame.get_column("timestamp")
    zulu = texts.str.ends_with("Z")
    if texts.null_count() == 0 and zulu.all():
        return _parsed(texts.str.strip_suffix("Z"), _NAIVE).alias("ts_ms")
    nothing = pl.lit(None, pl.String)
    forms = frame.select(
        zulu=pl.when(zulu).then(texts.str.strip_suffix("Z")).otherwise(nothing),
        digits=pl.when(texts.str.len_bytes() <= 15).then(texts).otherwise(nothing),
    )
    read = pl.DataFrame(
        {
            "zulu": _parsed(forms.get_column("zulu"), _NAIVE),
            "zoned": _parsed(texts, _ZONED),
            "digits": forms.get_column("digits").cast(pl.Int64, strict=False),
            "missing": frame.get_column("logged_ms"),
        }
    )
    given = pl.coalesce("zulu", "zoned", "digits")
    return read.select(
        pl.when(texts.is_null()).then("missing").otherwise(given).alias("ts_ms")
    ).to_series()


def _parsed(texts: pl.Series, pattern: str) -> pl.Series:
    moments = texts.str.to_datetime(pattern, time_unit="us", strict=False, exact=True)
    return moments.dt.epoch("us") // 1000


def _keeps_the_rules(frame: pl.DataFrame, limits: Limits) -> pl.Expr:
    """Each rule as a condition that is true for what certainly keeps it."""
    age = pl.col("logged_ms") - pl.col("ts_ms")
    names = frame.get_column("event").unique()
    good_names = names.filter(
        names.str.contains(r"\A[a-z][a-z0-9_]{0,63}\z")
        & ~names.is_in(["true", "false"])  # maybe no text, but a boolean
    )
    rules = [
        pl.col("merchant_id").is_between(1, MAX_MERCHANT_ID),
        pl.col("event").is_in(good_names.implode()),
        pl.col("visitor_id").str.len_bytes() > 0,
        age <= limits.max_age_days * 86_400_000,
        age >= -limits.max_ahead_s * 1000,
        _plain_time(frame),
        ~pl.col("event").is_in(sorted(ORDER_EVENTS)) | (pl.col("order_id").str.len_bytes() > 0),
        _absent_or("quantity", pl.col("quantity").is_between(1, MAX_QUANTITY)),
    ]
    present = [name for name in _TEXT if frame.get_column(name).null_count() < frame.height]
    rules += [_absent_or(name, _plain_text(name)) for name in present]
    for name, members in (("country", COUNTRIES), ("currency", EXPONENTS)):
        if name in present:
            value = pl.col(name).str.to_uppercase() if name == "country" else pl.col(name)
            rules.append(_absent_or(name, value.is_in(sorted(members))))
    if frame.get_column("value").null_count() < frame.height:
        rules.append(_absent_or("value", amount_is_good(pl.col("value"), pl.col("currency"))))
    if frame.get_column("items").null_count() < frame.height:
        rules.append(pl.lit(_items_are_good(frame)))
    if frame.get_column("properties").null_count() < frame.height:
        text = pl.col("properties")
        rules.append(
            _absent_or(
                "properties",
                (text.str.len_bytes() <= MAX_PROPERTIES_BYTES)
                & (text.str.count_matches(":", literal=True) <= MAX_PROPERTIES)
                & text.str.starts_with("{")
                & ~text.str.slice(1).str.contains_any(["{", "[", "\\u"]),
            )
        )
    return pl.all_horizontal(rules)


# Narrower than what the parser of times accepts, which takes "2026-9-1", a sign and blanks too.
_TIME: Final = (
    r"\A(?:[0-9]{1,15}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]+)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2}))\z"
)


def _plain_time(frame: pl.DataFrame) -> pl.Expr:
    """A timestamp in one of two forms, or none where the message's own time is credible."""
    given = pl.col("timestamp").str.contains(_TIME)
    if frame.get_column("timestamp").null_count() == 0:
        return given
    log_time = pl.col("logged_ms")
    return given | (
        pl.col("timestamp").is_null() & (log_time > EARLIEST_LOG_MS) & (log_time < LATEST_LOG_MS)
    )


def _absent_or(name: str, rule: pl.Expr) -> pl.Expr:
    return pl.col(name).is_null() | rule.fill_null(value=False)


def _plain_text(name: str) -> pl.Expr:
    """Short enough in bytes, no NUL, and not an object or a list taken for text."""
    value = pl.col(name)
    rule = (value.str.len_bytes() <= TEXT_LIMITS.get(name, 64)) & ~value.str.contains_any(["\0"])
    return rule & ~value.str.starts_with("{") & ~value.str.starts_with("[")


def amount_is_good(value: pl.Expr, currency: pl.Expr) -> pl.Expr:
    """Whether a decimal string is an amount within the limit that the currency can hold."""
    exponent = currency.replace_strict(EXPONENTS, default=None, return_dtype=pl.Int64)
    fraction = value.str.splitn(".", 2).struct.field("field_1").str.strip_chars_end("0")
    return value.str.contains(_AMOUNT) & (fraction.str.len_bytes().fill_null(0) <= exponent)


# Up to MAX_AMOUNT, a power of ten.
_AMOUNT: Final = (
    rf"\A(?:[0-9]{{1,{len(str(MAX_AMOUNT)) - 1}}}(?:\.[0-9]+)?|{MAX_AMOUNT}(?:\.0+)?)\z"
)


def _items_are_good(frame: pl.DataFrame) -> pl.Series:
    """For each event, whether all its items keep their rules."""
    listed = frame.select(pl.int_range(pl.len()).alias("row"), "items", "currency").filter(
        pl.col("items").list.len() > 0
    )
    if listed.is_empty():
        return pl.Series("items_ok", [True]).new_from_index(0, frame.height)
    items = listed.explode("items").unnest("items")
    price = pl.col("price").is_null() | amount_is_good(pl.col("price"), pl.col("currency"))
    product = pl.col("product_id")
    good = (
        (product.str.len_bytes().is_between(1, TEXT_LIMITS["product_id"]))
        & ~product.str.contains_any(["\0"])
        & ~product.str.starts_with("{")
        & ~product.str.starts_with("[")
        & (pl.col("quantity").is_null() | pl.col("quantity").is_between(1, MAX_QUANTITY))
        & price
    )
    bad = items.filter(~good.fill_null(value=False)).get_column("row")
    many = listed.filter(pl.col("items").list.len() > MAX_ITEMS).get_column("row")
    ok = np.ones(frame.height, dtype=bool)
    ok[pl.concat([bad, many, _with_too_much(items)]).unique().to_numpy()] = False
    return pl.Series("items_ok", ok)


def _with_too_much(items: pl.DataFrame) -> pl.Series:
    """The rows of which a line (price x quantity), or all lines together, exceed the limit.

    In 64 bits without overflow: a price is compared with the limit divided by the quantity, and a
    line that is larger counts as one of the limit and a bit.
    """
    limit = MAX_AMOUNT * PRICE_UNITS
    quantity = pl.col("quantity").fill_null(1).clip(1, MAX_QUANTITY)
    price = in_price_units(pl.col("price"))
    line = pl.when(price <= limit // quantity).then(price * quantity).otherwise(limit + 1)
    lines = items.filter(pl.col("price").is_not_null()).select("row", line.alias("line"))
    return lines.group_by("row").agg(pl.col("line").sum()).filter(pl.col("line") > limit)["row"]


def gap_frame(messages: Messages, limits: Limits, detail: str) -> pl.DataFrame:
    """Rejects of messages that the transform cannot process, with what can be read of each."""
    rejections = []
    for place, value in enumerate(messages.values):
        known = identity_of(value or b"", int(messages.logged_ms[place]), limits)
        rejections.append((place, Rejection(Reason.TRANSFORM_GAP, None, detail, *known)))
    return _reject_frame(messages, rejections)


def _reject_frame(messages: Messages, rejections: list[tuple[int, Rejection]]) -> pl.DataFrame:
    rejections.sort(key=lambda rejection: rejection[0])
    places = np.array([place for place, _ in rejections], np.int64)
    whys = [why for _, why in rejections]
    raws = [redact(messages.values[place]) for place in places.tolist()]
    logged_ms = messages.logged_ms[places]
    times = np.array(
        [at if why.ts_ms is None else why.ts_ms for at, why in zip(logged_ms, whys, strict=True)],
        np.int64,
    )
    return pl.DataFrame(
        {
            "kafka_partition": messages.partitions[places],
            "log_offset": messages.offsets[places],
            "logged_at": logged_ms * 1000,
            "merchant_id": [why.merchant_id for why in whys],
            "event_id": [why.event_id for why in whys],
            "reason": [str(why.reason) for why in whys],
            "field": [why.field for why in whys],
            "detail": [why.detail for why in whys],
            "raw": raws,
            "ts": times * 1000,
        },
        schema_overrides=REJECT_SCHEMA,
    )
