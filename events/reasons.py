"""Why an event was rejected: a closed set, the same on the topic, over HTTP and in the table."""

from enum import StrEnum


class Reason(StrEnum):
    """One word for each rule that an event can break."""

    EMPTY = "empty"
    INVALID_JSON = "invalid_json"
    INVALID_TEXT = "invalid_text"
    NOT_AN_OBJECT = "not_an_object"
    MISSING = "missing"
    WRONG_TYPE = "wrong_type"
    INVALID = "invalid"
    TOO_LONG = "too_long"
    TOO_MANY = "too_many"
    TOO_LARGE = "too_large"
    OUT_OF_RANGE = "out_of_range"
    TOO_MANY_DECIMALS = "too_many_decimals"
    UNKNOWN_CURRENCY = "unknown_currency"
    UNKNOWN_COUNTRY = "unknown_country"
    TOO_OLD = "too_old"
    IN_FUTURE = "in_future"
    UNKNOWN_FIELD = "unknown_field"  # over HTTP only: the topic's producers may add their own
    NOT_ALLOWED = "not_allowed"  # over HTTP only: not by a public key
    MERCHANT_MISMATCH = "merchant_mismatch"  # over HTTP only
    WRONG_PARTITION = "wrong_partition"  # on the topic only: a producer has another partitioner
    TRANSFORM_GAP = "transform_gap"  # our own fault: the transform or the database failed on it
