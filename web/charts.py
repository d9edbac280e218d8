"""A chart is one .sql file beside one Vega-Lite spec: reading them, and drawing them for exports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import vl_convert

from warehouse.answer import jsonable
from warehouse.runner import Answer
from web.time_range import epoch_ms

HERE = Path(__file__).parent

VEGA_LITE = "6.4"

BUNDLE_WITHIN_S = 120

_BUNDLE = """
import sys, vl_convert
sys.stdout.buffer.write(vl_convert.javascript_bundle(vl_version=sys.argv[1]).encode())
"""

VIEWS: dict[str, str] = {
    "behaviour": "User behaviour",
    "mood": "Mood & emotion",
    "genre": "Genre",
    "similar": "Similar tracks",
    "business": "Business numbers",
}
"""The views in the order of their tabs; each is a folder of charts/."""

Theme = Literal["light", "dark"]


@dataclass(frozen=True)
class Chart:
    """One chart. `width` is in columns of the page's grid of 6; `empty` says when there will be something to see."""

    view: str
    name: str
    title: str
    description: str
    empty: str
    order: int
    width: int
    sql: str
    spec: dict[str, Any]

    @property
    def key(self) -> str:
        """`view/name`."""
        return f"{self.view}/{self.name}"

    def listing(self) -> dict[str, Any]:
        """What the page needs to know to draw it."""
        about = {name: getattr(self, name) for name in ("view", "name", "title", "description", "empty", "width")}
        return {**about, "spec": self.spec}


def load(folder: Path = HERE / "charts") -> dict[str, Chart]:
    """Every chart by its key, in the order of the page; raises ValueError for a chart that is half there."""
    charts = []
    for view in VIEWS:
        for file in sorted((folder / view).glob("*.sql")):
            spec_file = file.with_suffix(".json")
            if not spec_file.exists():
                raise ValueError(f"{file} has no Vega-Lite spec beside it")
            spec = json.loads(spec_file.read_text())
            meta = spec.pop("usermeta")
            charts.append(
                Chart(
                    view,
                    file.stem,
                    spec.pop("title"),
                    spec["description"],
                    meta["empty"],
                    meta["order"],
                    meta["width"],
                    file.read_text(),
                    {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", **spec},
                )
            )
    return {chart.key: chart for chart in sorted(charts, key=lambda c: (list(VIEWS).index(c.view), c.order))}


def values(answer: Answer) -> list[dict[str, Any]]:
    """Rows as a chart takes them: times in milliseconds since 1970."""
    return [
        {name: epoch_ms(value) if isinstance(value, datetime) else jsonable(value) for name, value in row.items()}
        for row in answer.rows
    ]


@cache
def themes() -> dict[str, dict[str, Any]]:
    """The look of charts in light and dark, as Vega-Lite configurations."""
    found: dict[str, dict[str, Any]] = json.loads((HERE / "static" / "theme.json").read_text())
    return found


def drawn(chart: Chart, answer: Answer, theme: Theme = "light") -> dict[str, Any]:
    """The spec with its rows, its title and a size: complete in itself."""
    spec = {**chart.spec, "title": {"text": chart.title, "subtitle": chart.description}, "background": None}
    config: Mapping[str, Any] = themes()[theme]
    return {
        **spec,
        "data": {"name": "rows", "values": values(answer)},
        "width": 110 * chart.width,
        "padding": 16,
        "background": "#ffffff" if theme == "light" else "#141a24",
        "config": config,
    }


def to_svg(chart: Chart, answer: Answer, theme: Theme = "light") -> str:
    """The chart as SVG; reads nothing from any network."""
    svg: str = vl_convert.vegalite_to_svg(drawn(chart, answer, theme), VEGA_LITE, allowed_base_urls=[])
    return svg


def to_png(chart: Chart, answer: Answer, theme: Theme = "light") -> bytes:
    """The chart as PNG at twice the size; reads nothing from any network."""
    png: bytes = vl_convert.vegalite_to_png(drawn(chart, answer, theme), VEGA_LITE, scale=2, allowed_base_urls=[])
    return png


def vega_script(cache_dir: Path) -> bytes:
    """Vega, Vega-Lite and vega-embed as one script, kept in `cache_dir`.

    Made by a process of its own: the bundler holds the interpreter for seconds, in which nobody would be answered.
    Raises OSError and subprocess.SubprocessError.
    """
    file = cache_dir / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    if not file.exists():
        made = subprocess.run(
            [sys.executable, "-c", _BUNDLE, VEGA_LITE], capture_output=True, check=True, timeout=BUNDLE_WITHIN_S
        )
        cache_dir.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(made.stdout)
        part.replace(file)
    return file.read_bytes()
