"""The country of an address, by a MaxMind-format file."""

import maxminddb


def country_of(reader: maxminddb.Reader, ip: str) -> str | None:
    """ISO 3166-1 alpha-2, as the file has it; None where it does not know."""
    try:
        record = reader.get(ip)
    except ValueError:  # not an address, or one of a family the file does not hold
        return None
    country = record.get("country") if isinstance(record, dict) else None
    code = country.get("iso_code") if isinstance(country, dict) else None
    return code if isinstance(code, str) else None
