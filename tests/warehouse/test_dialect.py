"""BigQuery's SQL on DuckDB gives the answers that BigQuery documents."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from warehouse.answer import Answer, WarehouseError
from warehouse.dialect import to_duckdb
from warehouse.duck import OpenFile, open_file


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> OpenFile:
    connection = open_file(tmp_path_factory.mktemp("warehouse") / "shop.duckdb", read_only=False)
    connection.execute("CREATE TABLE sales AS SELECT * FROM (VALUES ('a', 1, [5, 6]), ('b', 2, [7])) t(k, v, parts)")
    return OpenFile(connection, "shop")


def at(*parts: int, micros: int = 0) -> datetime:
    return datetime(*parts, microsecond=micros, tzinfo=UTC)  # type: ignore[misc,arg-type]


KNOWN: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("SELECT x, o FROM UNNEST(['a', 'b']) AS x WITH OFFSET AS o ORDER BY o", [("a", 0), ("b", 1)]),
    ("SELECT x, offset FROM UNNEST(['a', 'b']) AS x WITH OFFSET ORDER BY offset", [("a", 0), ("b", 1)]),
    (
        "SELECT k, p, o FROM sales, UNNEST(sales.parts) AS p WITH OFFSET AS o ORDER BY p",
        [("a", 5, 0), ("a", 6, 1), ("b", 7, 0)],
    ),
    ("SELECT k, p FROM sales, UNNEST(parts) AS p ORDER BY p", [("a", 5), ("a", 6), ("b", 7)]),
    ("SELECT a FROM UNNEST([STRUCT(1 AS a, 'x' AS b), STRUCT(2 AS a, 'y' AS b)]) ORDER BY a", [(1,), (2,)]),
    ("SELECT s.b FROM UNNEST([STRUCT(1 AS a, 'x' AS b)]) AS s", [("x",)]),
    ("SELECT -DIV(9 - 2, 4 - 1), DIV(12, 2 * 3), DIV(-7, 2)", [(-2, 2, -3)]),
    ("SELECT UNIX_SECONDS(TIMESTAMP '2026-01-01 00:00:00.9+00')", [(1_767_225_600,)]),
    ("SELECT APPROX_QUANTILES(x, 2) FROM UNNEST([1, 2, 3, 4]) AS x", [([1, 2, 4],)]),
    ("SELECT APPROX_QUANTILES(x, 4)[OFFSET(2)] FROM UNNEST([1, 2, 3, 4, 5]) AS x", [(3,)]),
    ("SELECT APPROX_QUANTILES(DISTINCT x, 1) FROM UNNEST([1, 1, 9]) AS x", [([1, 9],)]),
    (
        "SELECT TIMESTAMP_DIFF(TIMESTAMP '2026-01-01 01:05:00+00', TIMESTAMP '2026-01-01 00:55:00+00', HOUR)",
        [(0,)],
    ),
    (
        "SELECT TIMESTAMP_DIFF(TIMESTAMP '2026-01-01 01:05:00+00', TIMESTAMP '2026-01-01 00:55:00+00', SECOND)",
        [(600,)],
    ),
    ("SELECT DATETIME_DIFF(DATETIME '2026-01-01 01:05:00', DATETIME '2026-01-01 00:55:00', HOUR)", [(1,)]),
    ("SELECT EXTRACT(DAYOFWEEK FROM DATE '2026-01-04'), EXTRACT(ISOWEEK FROM DATE '2026-01-04')", [(1, 1)]),
    ("SELECT EXTRACT(WEEK FROM DATE '2026-01-03'), EXTRACT(WEEK FROM DATE '2026-01-04')", [(0, 1)]),
    ("SELECT EXTRACT(WEEK(MONDAY) FROM DATE '2026-01-04')", [(0,)]),
    ("SELECT EXTRACT(DATE FROM TIMESTAMP '2026-01-01 23:30:00+00')", [(date(2026, 1, 1),)]),
    (
        "SELECT EXTRACT(DATE FROM TIMESTAMP '2026-01-01 23:30:00+00' AT TIME ZONE 'Europe/Berlin')",
        [(date(2026, 1, 2),)],
    ),
    ("SELECT EXTRACT(MILLISECOND FROM TIMESTAMP '2026-01-01 00:00:59.250+00')", [(250,)]),
    ("SELECT EXTRACT(HOUR FROM TIMESTAMP '2026-01-01 23:30:00+00' AT TIME ZONE 'Europe/Berlin')", [(0,)]),
    ("SELECT FORMAT_TIMESTAMP('%F %H', TIMESTAMP '2026-01-01 23:30:00+00', 'Europe/Berlin')", [("2026-01-02 00",)]),
    ("SELECT FORMAT_TIMESTAMP('%Y-%m-%d %H', TIMESTAMP '2026-01-01 23:30:00+00')", [("2026-01-01 23",)]),
    ("SELECT CAST('1.123456789' AS NUMERIC)", [(Decimal("1.123456789"),)]),
    ("SELECT 1.5, ROUND(2.5), 7 / 2, DIV(7, 2)", [(1.5, 3.0, 3.5, 3)]),
    (
        "SELECT DATE_TRUNC(DATE '2026-01-14', MONTH), DATE_ADD(DATE '2026-01-14', INTERVAL 1 DAY), "
        "DATE_SUB(DATE '2026-01-14', INTERVAL 1 MONTH)",
        [(date(2026, 1, 1), date(2026, 1, 15), date(2025, 12, 14))],
    ),
    (
        "WITH d AS (SELECT DATE(TIMESTAMP '2026-01-14 10:00:00+00') AS day) "
        "SELECT DATE_TRUNC(day, WEEK(MONDAY)) FROM d",
        [(date(2026, 1, 12),)],
    ),
    ("SELECT DATE_TRUNC(DATE '2026-01-14', WEEK)", [(date(2026, 1, 11),)]),
    (
        "SELECT TIMESTAMP_TRUNC(TIMESTAMP '2026-01-14 10:20:00+00', HOUR), "
        "DATE_TRUNC(TIMESTAMP '2026-01-14 10:00:00+00', DAY)",
        [(at(2026, 1, 14, 10), at(2026, 1, 14))],
    ),
    ("SELECT TIMESTAMP_TRUNC(TIMESTAMP '2026-01-01 23:30:00+00', DAY, 'Europe/Berlin')", [(at(2026, 1, 1, 23),)]),
    (
        "SELECT DATE(TIMESTAMP '2026-01-01 23:30:00+00', 'Europe/Berlin'), "
        "DATETIME(TIMESTAMP '2026-01-01 23:30:00+00', 'Europe/Berlin')",
        [(date(2026, 1, 2), datetime(2026, 1, 2, 0, 30))],
    ),
    (
        "SELECT TIMESTAMP_MILLIS(1500), TIMESTAMP_SECONDS(1)",
        [(at(1970, 1, 1, 0, 0, 1, micros=500_000), at(1970, 1, 1, 0, 0, 1))],
    ),
    (
        "SELECT UNIX_MILLIS(TIMESTAMP '1970-01-01 00:00:01.5+00'), TIMESTAMP_MICROS(5)",
        [(1500, at(1970, 1, 1, micros=5))],
    ),
    (
        "SELECT PARSE_TIMESTAMP('%Y-%m-%dT%H:%M:%E*S%Ez', '2026-01-01T01:00:00.5+01:00'), "
        "PARSE_TIMESTAMP('%F', '2026-01-01', 'Europe/Berlin')",
        [(at(2026, 1, 1, micros=500_000), at(2025, 12, 31, 23))],
    ),
    (
        "SELECT t FROM UNNEST(GENERATE_TIMESTAMP_ARRAY('2026-01-01', '2026-01-01 02:00:00', INTERVAL 1 HOUR)) AS t "
        "ORDER BY t LIMIT 2",
        [(at(2026, 1, 1),), (at(2026, 1, 1, 1),)],
    ),
    (
        "SELECT APPROX_TOP_COUNT(x, 2) FROM UNNEST(['a', 'b', 'b', 'c', 'b', 'c']) AS x",
        [([{"value": "b", "count": 3}, {"value": "c", "count": 2}],)],
    ),
    ("SELECT ARRAY_AGG(x ORDER BY x DESC LIMIT 2) FROM UNNEST([1, 2, 3]) AS x", [([3, 2],)]),
    ("SELECT ARRAY_AGG(x IGNORE NULLS ORDER BY x LIMIT 5) FROM UNNEST([2, NULL, 1]) AS x", [([1, 2],)]),
    ("SELECT ARRAY_AGG(STRUCT(x AS a) ORDER BY x LIMIT 1)[OFFSET(0)].a FROM UNNEST([2, 1]) AS x", [(1,)]),
    ("SELECT STRING_AGG(x, '-' ORDER BY x LIMIT 2) FROM UNNEST(['c', NULL, 'a', 'b']) AS x", [("a-b",)]),
    (
        "SELECT HLL_COUNT.MERGE(h) "
        "FROM (SELECT x > 1, HLL_COUNT.INIT(x) AS h FROM UNNEST([1, 2, 2, 3]) AS x GROUP BY 1)",
        [(3,)],
    ),
    ("SELECT HLL_COUNT.EXTRACT(HLL_COUNT.INIT(x)) FROM UNNEST([1, 2, 2]) AS x", [(2,)]),
    (
        "SELECT * FROM (SELECT k, v FROM sales) PIVOT(SUM(v) AS s, MAX(v) AS m FOR k IN ('a', 'b' AS bb))",
        [(1, 1, 2, 2)],
    ),
    ("SELECT FORMAT('%d-%s', 1, 'a'), FORMAT('%.2f', 1.239)", [("1-a", "1.24")]),
    ("SELECT [1, 2, 3][SAFE_OFFSET(5)], [1, 2, 3][OFFSET(0)], [1, 2][ORDINAL(1)]", [(None, 1, 1)]),
    ("SELECT SAFE_DIVIDE(1, 0), COUNTIF(x > 1), IF(TRUE, 1, 2) FROM UNNEST([1, 2]) AS x", [(None, 1, 1)]),
    ("SELECT x FROM UNNEST([3, 1, 2]) AS x QUALIFY ROW_NUMBER() OVER (ORDER BY x) = 1", [(1,)]),
    (
        "SELECT SAFE_CAST('x' AS INT64), JSON_VALUE('{\"a\": {\"b\": 1}}', '$.a.b'), CONCAT('a', NULL)",
        [(None, "1", None)],
    ),
    (
        "SELECT REGEXP_CONTAINS('abc', r'b.'), SPLIT('a,b', ',')[OFFSET(1)], TO_HEX(MD5('a'))",
        [(True, "b", "0cc175b9c0f1b6a831c399e269772661")],
    ),
    ("WITH sales AS (SELECT v FROM sales WHERE v > 1) SELECT v FROM sales", [(2,)]),
    ("SELECT v FROM shop.sales ORDER BY v NULLS LAST LIMIT 1", [(1,)]),
    ("SELECT v FROM `project.shop.sales` ORDER BY v DESC LIMIT 1", [(2,)]),
    ("SELECT table_schema, table_name FROM shop.INFORMATION_SCHEMA.TABLES", [("shop", "sales")]),
]


@pytest.mark.parametrize(("sql", "rows"), KNOWN, ids=[sql[:70] for sql, _ in KNOWN])
def test_known_answer(warehouse: OpenFile, sql: str, rows: list[tuple[Any, ...]]) -> None:
    """The translated query gives the documented answer."""
    assert [tuple(row.values()) for row in warehouse.query(sql).rows] == rows


def test_names_of_columns(warehouse: OpenFile) -> None:
    """Columns without a name are called as in BigQuery, fields after their last part, pivoted ones aggregate first."""
    assert warehouse.query("SELECT COUNT(*), v, SUM(v), CAST(1 AS STRING) FROM sales GROUP BY v LIMIT 1").columns == [
        "f0_", "v", "f1_", "f2_"
    ]  # fmt: skip
    assert warehouse.query("SELECT STRUCT(1 AS a).a").columns == ["a"]
    pivoted = "SELECT * FROM (SELECT k, v FROM sales) PIVOT(SUM(v) AS s, MAX(v) AS m FOR k IN ('a', 'b' AS bb))"
    assert warehouse.query(pivoted).columns == ["s_a", "m_a", "s_bb", "m_bb"]


@pytest.mark.parametrize(
    "value",
    [1, 2.5, "it's; --", True, None, date(2026, 1, 2), at(2026, 1, 2, 3), b"\x00\xff", Decimal("1.5"), ["a", "b"], []],
    ids=repr,
)
def test_parameters_come_back_as_they_went_in(warehouse: OpenFile, value: Any) -> None:
    """A parameter is a value, whatever its text looks like."""
    assert warehouse.query("SELECT @p AS p", {"p": value}).rows == [{"p": value}]


def test_parameters_in_place(warehouse: OpenFile) -> None:
    """Parameters work in conditions, limits and UNNEST."""
    found = warehouse.query(
        "SELECT v FROM sales WHERE k IN UNNEST(@keys) AND v >= @low LIMIT 5", {"keys": ["b"], "low": 1}
    )
    assert found == Answer(["v"], [{"v": 2}])


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("DROP TABLE sales", "single SELECT"),
        ("DELETE FROM sales WHERE TRUE", "single SELECT"),
        ("INSERT INTO sales SELECT * FROM sales", "single SELECT"),
        ("MERGE sales USING sales AS s ON FALSE WHEN NOT MATCHED THEN INSERT ROW", "single SELECT"),
        ("CREATE TABLE x AS SELECT 1", "single SELECT"),
        ("EXPORT DATA OPTIONS(uri = 'x') AS SELECT 1", "single SELECT"),
        ("COPY sales TO 'x.csv'", "single SELECT"),
        ("SET x = 1", "single SELECT"),
        ("SELECT 1; DROP TABLE sales", "2 statements"),
        ("", "0 statements"),
        ("SELECT * FROM read_csv('/etc/passwd')", "table function"),
        ("SELECT * FROM glob('*')", "no SQL that BigQuery would read"),
        ("SELECT * FROM (SELECT * FROM quack_query('quack:localhost', 'x'))", "table function"),
        ("SELECT (SELECT MAX(content) FROM read_text('/etc/passwd'))", "table function"),
        ("SELECT * FROM `/etc/passwd`", "no name of a table"),
        ("SELECT * FROM `https://example.org/x.csv`", "no name of a table"),
        ("SELEC 1", "no SQL that BigQuery would read"),
        ("SELECT nope FROM sales", 'Referenced column "nope" not found'),
        ("SELECT * FROM nope", "nope does not exist"),
        ("SELECT @missing", "@missing, which was not given"),
        ("SELECT 1 AS a, 2 AS a", "Two columns of the result are called a"),
    ],
)
def test_refused(warehouse: OpenFile, sql: str, part: str) -> None:
    """What could change data or read files, and what is wrong, is refused with a message in one line."""
    with pytest.raises(WarehouseError) as refused:
        warehouse.query(sql)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_translation_is_stable() -> None:
    """The same question is translated the same twice: no state is kept."""
    sql = "SELECT APPROX_TOP_COUNT(v, 1), DATE_TRUNC(DATE(t), MONTH) FROM sales"
    assert to_duckdb(sql, "shop") == to_duckdb(sql, "shop")
