"""The warehouse as it should be: tables, the sink's private table and views, made where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from schemas.tables import TABLES, Column, Table
from warehouse.dialect import parse, qualified, translate

if TYPE_CHECKING:
    import duckdb
    from google.cloud import bigquery

VIEWS = ("current_insights", "current_tracks", "enriched_events", "alerts", "ledger_balance", "ledger_hours")
"""Each after those it asks."""

PROGRESS = Table(
    "_progress",
    None,
    None,
    "topic",
    "",
    (),
    (
        Column("topic", "STRING", True, "Kafka topic."),
        Column("partition", "INT64", True, "Kafka partition."),
        Column("first_offset", "INT64", True, "Where the sink began; earlier records had been deleted before."),
        Column("next_offset", "INT64", True, "First record that is not in the warehouse."),
        Column("controls", "INT64", True, "Watermark records read: no part of the ledger."),
        Column("broken", "INT64", True, "Records read that cannot be decoded: each has a dead letter."),
        Column("expired", "INT64", True, "Records that retention deleted before they were read: lost."),
        Column("clock_ms", "INT64", True, "Stream time of the partition: the largest timestamp seen."),
    ),
)
"""How far the sink is, committed together with the rows."""


def create_table(table: Table) -> str:
    """The table in BigQuery's DDL, made unless it exists."""
    columns = ",\n  ".join(_column(column) for column in table.columns)
    ddl = f"CREATE TABLE IF NOT EXISTS `{table.name}` (\n  {columns}\n)"
    if table.time:
        ddl += f"\nPARTITION BY TIMESTAMP_TRUNC(`{table.time}`, DAY)"
    if table.cluster:
        ddl += f"\nCLUSTER BY {', '.join(f'`{name}`' for name in table.cluster)}"
    return ddl


def _column(column: Column) -> str:
    rule = " NOT NULL" if column.required else ""
    return f"`{column.name}` {column.type}{rule} OPTIONS(description={_quoted(column.doc)})"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def create_view(name: str) -> str:
    """The view in BigQuery's DDL, from views/<name>.sql."""
    return f"CREATE OR REPLACE VIEW `{name}` AS\n{_view_query(name)}"


def _view_query(name: str) -> str:
    return (Path(__file__).parent / "views" / f"{name}.sql").read_text()


def changes(table: Table, present: Mapping[str, bool]) -> list[str]:
    """DDL that brings an older table up to date; `present` are its columns, and whether each may be NULL.

    Columns that it does not have come as nullable ones; what is no longer required may be NULL.
    """
    added = [
        f"ALTER TABLE `{table.name}` ADD COLUMN IF NOT EXISTS `{column.name}` {column.type}"
        for column in table.columns
        if column.name not in present
    ]
    relaxed = [
        f"ALTER TABLE `{table.name}` ALTER COLUMN `{column.name}` DROP NOT NULL"
        for column in table.columns
        if not column.required and not present.get(column.name, True)
    ]
    return added + relaxed


def apply_duckdb(connection: duckdb.DuckDBPyConnection, dataset: str) -> None:
    """Makes what is missing, in one transaction; rows that exist are not touched."""
    with connection.cursor() as cursor:
        cursor.begin()
        for table in (*TABLES, PROGRESS):
            cursor.execute(translate(parse(create_table(table)), dataset))
            found = cursor.execute(
                "SELECT column_name, is_nullable FROM duckdb_columns() "
                "WHERE database_name = current_database() AND table_name = ?",
                [table.name],
            ).fetchall()
            for ddl in changes(table, dict(found)):
                cursor.execute(translate(parse(ddl), dataset))
        for view in VIEWS:
            cursor.execute(translate(parse(create_view(view)), dataset))
        cursor.commit()


def apply_bigquery(
    client: bigquery.Client,
    dataset: bigquery.DatasetReference,
    *,
    without: tuple[str, ...],
    private: tuple[Table, ...],
    views: Mapping[str, str],
) -> None:
    """Makes what is missing, with the sink's `private` tables; `views` (name and query) stand for tables left out.

    Raises google.api_core.exceptions.GoogleAPIError.
    """
    client.create_dataset(dataset, exists_ok=True)
    there = {item.table_id: item for item in client.list_tables(dataset)}
    for table in (*(each for each in TABLES if each.name not in without), *private):
        if table.name not in there:
            _run(client, dataset, create_table(table))
            continue
        present = {field.name: field.mode != "REQUIRED" for field in client.get_table(dataset.table(table.name)).schema}
        for ddl in changes(table, present):
            _run(client, dataset, ddl)
    queries = {**views, **{name: _view_query(name) for name in VIEWS}}
    for name, query in queries.items():
        wanted = qualified(parse(query), dataset.dataset_id).sql("bigquery", comments=False)
        if name not in there or client.get_table(dataset.table(name)).view_query != wanted:
            _run(client, dataset, f"CREATE OR REPLACE VIEW `{name}` AS {wanted}")


def _run(client: Any, dataset: Any, ddl: str) -> None:
    tree: exp.Expression = qualified(parse(ddl), dataset.dataset_id)
    client.query(tree.sql("bigquery")).result(timeout=60)
