"""The report as a Vega-Lite picture: when tracks are skipped, when people listen, and how plays are spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from producers.simulator.popularity import weights
from producers.simulator.report import Report

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_SIZE = {"width": 300, "height": 220}
_COLOUR = {"field": "who", "type": "nominal", "title": None, "scale": {"range": ["#1f6f54", "#d08a2e"]}}


def picture(report: Report) -> dict[str, Any]:
    """A specification that needs nothing from elsewhere."""
    title = f"Simulated listeners, seed {report.seed}: {report.events:,} events of eight days"
    charts = [_skips(report), _hours(report), _ranks(report)]
    return {
        "$schema": _SCHEMA,
        "title": title,
        "background": "white",
        "hconcat": charts,
        "resolve": {"scale": {"color": "independent"}},
    }


def _skips(report: Report) -> dict[str, Any]:
    values = [
        {"until": one.name.removeprefix("plays skipped before "), "who": who, "share": share}
        for one in report.targets
        if one.name.startswith("plays skipped before ")
        for who, share in (("simulated", one.measured), ("target", one.target))
    ]
    encoding = {
        "x": {"field": "until", "type": "nominal", "sort": None, "title": "skipped before", "axis": {"labelAngle": 0}},
        "xOffset": {"field": "who"},
        "y": {"field": "share", "type": "quantitative", "title": "% of plays"},
        "color": _COLOUR,
    }
    return {
        **_SIZE,
        "title": "When tracks are skipped",
        "data": {"values": values},
        "mark": "bar",
        "encoding": encoding,
    }


def _hours(report: Report) -> dict[str, Any]:
    values = [
        {"hour": hour, "who": who, "plays": plays}
        for who, by_hour in report.by_hour.items()
        for hour, plays in enumerate(by_hour)
    ]
    encoding = {
        "x": {
            "field": "hour",
            "type": "quantitative",
            "title": "local hour",
            "axis": {"values": list(range(0, 25, 3))},
        },
        "y": {"field": "plays", "type": "quantitative", "title": "plays an hour"},
        "color": _COLOUR,
    }
    mark = {"type": "line", "point": True}
    return {**_SIZE, "title": "When people listen", **_drawn(values, mark, encoding)}


def _ranks(report: Report) -> dict[str, Any]:
    ranks = np.unique(np.geomspace(1, len(report.by_rank), 60).astype(np.int64))
    law = np.cumsum(weights(len(report.by_rank)))
    curves = {"simulated": np.cumsum(report.by_rank) / report.by_rank.sum(), "target": law / law[-1]}
    values = [
        {"rank": rank, "who": who, "share": round(float(curve[rank - 1]) * 100, 3)}
        for who, curve in curves.items()
        for rank in ranks.tolist()
    ]
    encoding = {
        "x": {"field": "rank", "type": "quantitative", "scale": {"type": "log"}, "title": "first tracks"},
        "y": {"field": "share", "type": "quantitative", "title": "% of plays"},
        "color": _COLOUR,
    }
    return {**_SIZE, "title": "What is played", **_drawn(values, "line", encoding)}


def _drawn(values: list[dict[str, Any]], mark: Any, encoding: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}
