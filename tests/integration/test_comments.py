"""The database says what its tables and columns mean."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from db.comments import apply_comments, relation_comments
from db.roles import ANALYST

READABLE = """
SELECT relation.relname, attribute.attname, col_description(relation.oid, attribute.attnum),
       obj_description(relation.oid, 'pg_class')
  FROM pg_class AS relation JOIN pg_attribute AS attribute ON attrelid = relation.oid
 WHERE relation.relnamespace = current_schema()::regnamespace AND attnum > 0 AND NOT attisdropped
   AND relation.relkind IN ('r', 'v', 'p')
   AND has_column_privilege(%s, relation.oid, attribute.attnum, 'SELECT')
"""


@pytest.fixture
def connection(shard: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(shard, autocommit=True) as opened:
        yield opened


def test_whatever_an_analyst_reads_is_explained(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute(READABLE, (ANALYST,)).fetchall()
    assert {row[0] for row in rows} >= set(relation_comments())
    silent = [row[:2] for row in rows if not row[2] or not row[3]]
    assert silent == []
    money = {row[2] for row in rows if row[1].endswith("_minor")}
    assert all("minor units" in text for text in money)


def test_a_second_time_changes_nothing(connection: psycopg.Connection[Any]) -> None:
    of = "SELECT max(xmin::text::int8), count(*) FROM pg_description WHERE objsubid > 0"
    before = connection.execute(of).fetchone()
    apply_comments(connection)
    assert connection.execute(of).fetchone() == before
