"""Where sqlglot's translation to DuckDB is refused or silently wrong, the syntax tree is put right first."""

from __future__ import annotations

from sqlglot import exp

from warehouse.functions import REPAIRS, Tree, as_date, bare


def repair(tree: Tree, dataset: str) -> Tree:
    """A copy of the tree, put right from the leaves up. `dataset` is the name of DuckDB's catalog."""
    root = tree.copy()
    for node in reversed(list(root.walk())):
        if isinstance(node, exp.DateTrunc) and _is_date(node.this, root):
            mended = as_date(node)
        elif isinstance(node, exp.Table):
            mended = _pivot(_table(node, dataset))
        elif isinstance(node, exp.Subquery):
            mended = _pivot(node)
        else:
            mended = REPAIRS[type(node)](node) if type(node) in REPAIRS else node
        if mended is not node:
            root = mended if node is root else root
            node.replace(mended)
    return _named(root)


def _is_date(node: Tree, root: Tree) -> bool:
    """Whether the expression is a DATE as far as the query itself tells."""
    node = bare(node)
    if isinstance(node, exp.Cast):
        return bool(node.to.this == exp.DataType.Type.DATE)
    if isinstance(node, exp.Column):
        told = [alias.this for alias in root.find_all(exp.Alias) if alias.alias == node.name]
        return any(not isinstance(value, exp.Column) and _is_date(value, root) for value in told)
    if isinstance(node, exp.Min | exp.Max | exp.AnyValue | exp.DateTrunc):
        return _is_date(node.this, root)
    return isinstance(node, exp.Date | exp.CurrentDate | exp.DateFromParts | exp.LastDay | exp.StrToDate)


def _table(node: exp.Table, dataset: str) -> exp.Table | exp.Subquery:
    """Drops the project; INFORMATION_SCHEMA is that of the dataset."""
    node.set("catalog", None)
    _, found, view = node.name.upper().partition("INFORMATION_SCHEMA.")
    if not found:
        return node
    place = exp.alias_(exp.Literal.string(dataset), "table_schema")
    inner = exp.Select(expressions=[exp.Star(replace=[place])]).from_(exp.table_(view.lower(), db="information_schema"))
    return inner.where(exp.column("table_catalog").eq(exp.Literal.string(dataset))).subquery(node.alias or view)


def _named(root: Tree) -> Tree:
    """Columns without a name are called f0_, f1_, ... in the result, as in BigQuery."""
    if isinstance(root, exp.Select):
        for item in root.expressions:
            if isinstance(item, exp.Dot) and not item.is_star:
                item.replace(exp.alias_(item.copy(), item.name, quoted=True))
        unnamed = [i for i in root.expressions if not isinstance(i, exp.Alias | exp.Column) and not i.is_star]
        for number, item in enumerate(unnamed):
            item.replace(exp.alias_(item.copy(), f"f{number}_", quoted=True))
    return root


def _pivot(node: exp.Table | exp.Subquery) -> Tree:
    """PIVOT with named aggregates calls its columns aggregate_value, not value_aggregate."""
    pivots = node.args.get("pivots") or []
    if len(pivots) != 1 or pivots[0].args.get("unpivot"):
        return node
    pivot = pivots[0]
    aggregates = [aggregate.alias for aggregate in pivot.expressions]
    values = [value.alias or value.name for value in pivot.fields[0].expressions]
    if not all(aggregates):
        return node
    renames = [
        exp.alias_(exp.column(f"{value}_{aggregate}", quoted=True), f"{aggregate}_{value}", quoted=True)
        for value in values
        for aggregate in aggregates
    ]
    inner = exp.Select(expressions=[exp.Star(rename=renames)]).from_(node.copy())
    alias = pivot.alias
    pivot_in_copy = inner.find(exp.Pivot)
    assert pivot_in_copy is not None
    pivot_in_copy.set("alias", None)
    return inner.subquery(alias or None)
