"""BigQuery's SQL for DuckDB: what may be asked, parameters, names of the dataset, and the translation."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from warehouse.answer import WarehouseError
from warehouse.repairs import repair

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns about what is refused here with a message of ours


@contextmanager
def _plainly() -> Iterator[None]:
    try:
        yield
    except SqlglotError as error:
        first = next(iter(getattr(error, "errors", [])), None)
        where = f" (line {first['line']}, column {first['col']}: {first['highlight']})" if first else ""
        what = first["description"] if first else str(error).splitlines()[0]
        what = re.sub(r"<class '.*\.(\w+)'>", r"\1", what)
        raise WarehouseError(f"This is no SQL that BigQuery would read: {what}{where}") from None
    except RecursionError:
        raise WarehouseError("The query is nested too deeply.") from None


def question(sql: str) -> exp.Expression:
    """Parses one read-only query; raises WarehouseError for anything that could change data or read files."""
    with _plainly():
        statements = [statement for statement in sqlglot.parse(sql, read="bigquery") if statement is not None]
    if len(statements) != 1:
        raise WarehouseError(f"One query at a time, please: this is {len(statements)} statements.")
    tree = statements[0]
    if not isinstance(tree, exp.Query) or tree.find(exp.DML, exp.DDL, exp.Command, exp.Into) not in (None, tree):
        raise WarehouseError("Only queries are answered here: a single SELECT, or WITH ... SELECT.")
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise WarehouseError(
                f"{table.this.sql('bigquery')} is a table function; tables, views and UNNEST can be asked."
            )
        names = [part.name.removeprefix("INFORMATION_SCHEMA.") for part in table.parts]
        if not all(name.replace("_", "").replace("-", "").isalnum() for name in names):
            raise WarehouseError(f"{table.sql('bigquery')} is no name of a table.")
    return tree


def bind(tree: exp.Expression, params: Mapping[str, Any]) -> exp.Expression:
    """Puts values in the place of @name; raises WarehouseError for a name without a value."""

    def place(node: exp.Expression) -> exp.Expression:
        if not isinstance(node, exp.Parameter):
            return node
        if node.name not in params:
            raise WarehouseError(f"The query asks for @{node.name}, which was not given.")
        return _literal(params[node.name])

    return tree.transform(place)


def _literal(value: Any) -> exp.Expression:
    match value:
        case datetime():
            kind = "TIMESTAMP" if value.tzinfo else "DATETIME"
            return exp.cast(exp.Literal.string(value.isoformat(sep=" ")), kind, dialect="bigquery")
        case date():
            return exp.cast(exp.Literal.string(value.isoformat()), "DATE", dialect="bigquery")
        case bytes():
            return exp.func("FROM_HEX", exp.Literal.string(value.hex()), dialect="bigquery")
        case Decimal():
            return exp.cast(exp.Literal.string(str(value)), "NUMERIC", dialect="bigquery")
        case float():
            return exp.cast(exp.Literal.string(repr(value)), "FLOAT64", dialect="bigquery")
        case list() | tuple():
            return exp.Array(expressions=[_literal(item) for item in value])
        case None | bool() | int() | str():
            return exp.convert(value)
        case _:
            raise WarehouseError(f"A parameter cannot be a {type(value).__name__}.")


def to_duckdb(sql: str, dataset: str, params: Mapping[str, Any] | None = None) -> str:
    """One read-only query in BigQuery's dialect as DuckDB's; the dataset is the catalog of the same name."""
    tree = bind(question(sql), params or {})
    return translate(tree, dataset)


def translate(tree: exp.Expression, dataset: str) -> str:
    """Any parsed statement as DuckDB's SQL, with the repairs of repairs.py."""
    with _plainly():
        translated: str = repair(tree, dataset).sql("duckdb", identify=True, unsupported_level=ErrorLevel.IGNORE)
        return translated


def parse(sql: str) -> exp.Expression:
    """One statement of ours; raises WarehouseError when it cannot be read."""
    with _plainly():
        return sqlglot.parse_one(sql, read="bigquery")


def qualified(tree: exp.Expression, dataset: str) -> exp.Expression:
    """Puts the dataset before every table that has none: BigQuery's views do not know a default dataset."""
    named = {cte.alias for cte in tree.find_all(exp.CTE)}
    tree = tree.copy()
    for table in tree.find_all(exp.Table):
        if not table.db and table.name not in named and isinstance(table.this, exp.Identifier):
            table.set("db", exp.to_identifier(dataset))
    return tree
