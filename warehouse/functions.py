"""Functions and types that sqlglot translates to DuckDB wrongly or not at all, each with its repair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import sqlglot
from sqlglot import exp

Tree: TypeAlias = exp.Expression

_SQL_OF_TOP_COUNT = """
LIST_TRANSFORM(LIST_SLICE(LIST_REVERSE_SORT(LIST_TRANSFORM(MAP_ENTRIES(HISTOGRAM(value_)),
  e -> {'count': e.value, 'value': e.key})), 1, count_), e -> {'value': e.value, 'count': e.count})
"""


def _call(name: str, *args: Any) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=list(args))


def _number(value: int) -> exp.Literal:
    return exp.Literal.number(value)


def _text(value: str) -> exp.Literal:
    return exp.Literal.string(value)


def bare(node: Tree) -> Tree:
    """The expression within the wrappers that the parser puts around the argument of a date function."""
    while isinstance(node, exp.TsOrDsToTimestamp | exp.TsOrDsToDatetime | exp.TsOrDsToDate | exp.Paren):
        node = node.this
    return node


def _literal(node: exp.Literal) -> Tree:
    """1.5 is a FLOAT64 in BigQuery and a DECIMAL(2,1) in DuckDB."""
    if not node.is_string and "." in node.name and "e" not in node.name.lower():
        return exp.Literal.number(f"{node.name}e0")
    return node


def _data_type(node: exp.DataType) -> Tree:
    """NUMERIC keeps nine digits behind the point."""
    if node.this == exp.DataType.Type.DECIMAL and not node.expressions:
        return exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb")
    return node


def _timestamp_diff(node: exp.TimestampDiff) -> Tree:
    """Whole units that fit in between, where DuckDB counts the boundaries crossed."""
    return _call("DATE_SUB", _text(node.unit.name), node.expression, node.this)


def _extract(node: exp.Extract) -> Tree:
    """Parts that DuckDB counts or calls otherwise."""
    value = node.expression
    part = node.this
    if isinstance(part, exp.WeekStart):
        return _week(value, monday=part.this.name.upper() == "MONDAY") if part.this.name.upper() in _WEEKS else node
    match part.name.upper():
        case "DAYOFWEEK":
            return exp.paren(_call("DAYOFWEEK", value) + 1)
        case "WEEK":
            return _week(value, monday=False)
        case "ISOWEEK":
            return _call("WEEKOFYEAR", value)
        case "DATE" | "TIME":
            return exp.cast(value, part.name)
        case "DATETIME":
            return exp.cast(value, exp.DataType.Type.TIMESTAMP)
        case "MILLISECOND":
            return exp.paren(exp.Mod(this=_call("MILLISECOND", value), expression=_number(1000)))
        case "MICROSECOND":
            return exp.paren(exp.Mod(this=_call("MICROSECOND", value), expression=_number(1_000_000)))
        case _:
            return node


_WEEKS = ("SUNDAY", "MONDAY")


def _week(value: Tree, *, monday: bool) -> Tree:
    return exp.cast(_call("STRFTIME", value, _text("%W" if monday else "%U")), exp.DataType.Type.BIGINT)


def _time_to_str(node: exp.TimeToStr) -> Tree:
    """FORMAT_TIMESTAMP with a zone."""
    zone = node.args.get("zone")
    if zone is None:
        return node
    return _call("STRFTIME", _call("TIMEZONE", zone, bare(node.this)), node.args["format"])


def _str_to_time(node: exp.StrToTime) -> Tree:
    """PARSE_TIMESTAMP: fractions of a second, zones, and a result in UTC."""
    layout = node.args["format"]
    if not layout.is_string:
        return node
    text = layout.name.replace("%Ez", "%z").replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S").replace("%Z", "%z")
    layouts = [text.replace("%E*S", "%S.%f"), text.replace("%E*S", "%S")] if "%E*S" in text else [text]
    parsed: Tree = _call("STRPTIME", node.this, exp.Array(expressions=[_text(layout) for layout in layouts]))
    if node.args.get("zone") is not None:
        return _call("TIMEZONE", node.args["zone"], parsed)
    return exp.cast(parsed, exp.DataType.Type.TIMESTAMPTZ)


def _unix_to_time(node: exp.UnixToTime) -> Tree:
    """TIMESTAMP_MILLIS and TIMESTAMP_MICROS give an instant, not a time of day."""
    match node.args.get("scale"):
        case exp.Literal(this="3"):
            return exp.cast(_call("EPOCH_MS", node.this), exp.DataType.Type.TIMESTAMPTZ)
        case exp.Literal(this="6"):
            return exp.cast(_call("MAKE_TIMESTAMP", node.this), exp.DataType.Type.TIMESTAMPTZ)
        case _:
            return node


def _timestamp_array(node: exp.GenerateTimestampArray) -> Tree:
    """GENERATE_TIMESTAMP_ARRAY gives instants."""
    ends = [exp.cast(node.args[end], exp.DataType.Type.TIMESTAMPTZ) for end in ("start", "end")]
    return _call("GENERATE_SERIES", *ends, node.args["step"])


def _date_result(node: exp.DateAdd | exp.DateSub) -> Tree:
    """A DATE and an interval give a DATE."""
    return as_date(node)


def as_date(node: Tree) -> Tree:
    """The expression as a DATE."""
    return exp.cast(node.copy(), exp.DataType.Type.DATE)


def _approx_quantiles(node: exp.ApproxQuantiles) -> Tree:
    """Values that occur, as BigQuery gives them, without interpolation."""
    parts = int(node.expression.name) if node.expression is not None else 0
    value = node.this
    if isinstance(value, exp.Distinct) and len(value.expressions) == 2:
        value, parts = exp.Distinct(expressions=value.expressions[:1]), int(value.expressions[1].name)
    steps = [exp.Literal.number(repr(i / parts)) for i in range(parts + 1)]
    return _call("QUANTILE_DISC", value, exp.Array(expressions=steps))


def _approx_top_count(node: exp.ApproxTopK) -> Tree:
    """The most frequent values with their counts."""
    names = {"value_": node.this, "count_": node.expression}
    shape = sqlglot.parse_one(_SQL_OF_TOP_COUNT, read="duckdb")
    return shape.transform(lambda n: names.get(n.name, n) if isinstance(n, exp.Column) else n)


def _array_agg(node: exp.ArrayAgg) -> Tree:
    """ARRAY_AGG(... LIMIT n)."""
    limit = node.this
    if not isinstance(limit, exp.Limit):
        return node
    inner: Tree = exp.ArrayAgg(this=limit.this)
    if isinstance(node.parent, exp.IgnoreNulls):
        value = limit.this.this if isinstance(limit.this, exp.Order) else limit.this
        value = value.expressions[0] if isinstance(value, exp.Distinct) else value
        inner = _not_null(inner, value)
    return _call("LIST_SLICE", inner, _number(1), limit.expression)


def _ignore_nulls(node: exp.IgnoreNulls) -> Tree:
    """IGNORE NULLS has been done by the repair of the function within."""
    done = isinstance(node.this, exp.Anonymous) and node.this.name in ("LIST_SLICE", "QUANTILE_DISC")
    return node.this if done else node


def _group_concat(node: exp.GroupConcat) -> Tree:
    """STRING_AGG(... LIMIT n)."""
    limit = node.this
    if not isinstance(limit, exp.Limit):
        return node
    value = limit.this.this if isinstance(limit.this, exp.Order) else limit.this
    inner = value.expressions[0] if isinstance(value, exp.Distinct) else value
    listed = _not_null(exp.ArrayAgg(this=limit.this), inner)
    separator = node.args.get("separator") or _text(",")
    return _call("ARRAY_TO_STRING", _call("LIST_SLICE", listed, _number(1), limit.expression), separator)


def _not_null(aggregate: Tree, value: Tree) -> Tree:
    return exp.Filter(this=aggregate, expression=exp.Where(this=value.copy().is_(exp.Null()).not_()))


def _dot(node: exp.Dot) -> Tree:
    """HLL_COUNT sketches as exact sets of values."""
    if node.this.name.upper() != "HLL_COUNT" or not isinstance(node.expression, exp.Anonymous):
        return node
    value = node.expression.expressions[0]
    merged = _call("LIST_DISTINCT", _call("FLATTEN", _call("LIST", value)))
    match node.expression.name.upper():
        case "INIT":
            return _call("LIST", exp.Distinct(expressions=[value]))
        case "MERGE":
            return _call("LEN", merged)
        case "MERGE_PARTIAL":
            return merged
        case "EXTRACT":
            return _call("LEN", value)
        case _:
            return node


def _format(node: exp.Format) -> Tree:
    """FORMAT takes the signs of printf."""
    return _call("PRINTF", node.this, *node.expressions)


def _int_div(node: exp.IntDiv) -> Tree:
    """DIV is a call in BigQuery and an operator in DuckDB, which needs parentheses around what it is made of."""
    return exp.paren(exp.IntDiv(this=exp.paren(node.this.copy()), expression=exp.paren(node.expression.copy())))


def _unix_seconds(node: exp.UnixSeconds) -> Tree:
    """BigQuery rounds down; a cast would round to the nearest."""
    return exp.cast(exp.Floor(this=_call("EPOCH", node.this.copy())), "BIGINT")


def _unnest(node: exp.Unnest) -> Tree:
    """WITH OFFSET counts from 0."""
    offset = node.args.get("offset")
    if not offset:
        return node
    values = node.expressions[0]
    alias = node.args.get("alias")
    names = alias.columns if alias is not None else []
    name = names[0].name if names else "_element"
    offset_name = offset.name if isinstance(offset, exp.Expression) else "offset"
    index = exp.paren(_call("GENERATE_SUBSCRIPTS", values.copy(), _number(1)) - 1)
    inner = exp.select(
        exp.alias_(_call("UNNEST", values.copy()), name, quoted=True), exp.alias_(index, offset_name, quoted=True)
    )
    return inner.subquery()


REPAIRS: dict[type[Tree], Callable[[Any], Tree]] = {
    exp.Literal: _literal,
    exp.DataType: _data_type,
    exp.TimestampDiff: _timestamp_diff,
    exp.Extract: _extract,
    exp.TimeToStr: _time_to_str,
    exp.StrToTime: _str_to_time,
    exp.UnixToTime: _unix_to_time,
    exp.GenerateTimestampArray: _timestamp_array,
    exp.DateAdd: _date_result,
    exp.DateSub: _date_result,
    exp.ApproxQuantiles: _approx_quantiles,
    exp.ApproxTopK: _approx_top_count,
    exp.ArrayAgg: _array_agg,
    exp.GroupConcat: _group_concat,
    exp.IgnoreNulls: _ignore_nulls,
    exp.Dot: _dot,
    exp.Format: _format,
    exp.IntDiv: _int_div,
    exp.UnixSeconds: _unix_seconds,
    exp.Unnest: _unnest,
}
"""By type of node; a repair gives the node itself where nothing is to be done."""
