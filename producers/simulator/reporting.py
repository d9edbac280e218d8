"""`crossfade simulate --report`: the table on the terminal, as JSON, and as a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from producers.simulator.report import Report


def reported(seed: int, json_file: Path | None, picture: Path) -> int:
    """Makes the report and gives the exit status: 0 when every target is met."""
    from producers.simulator.report import report  # noqa: PLC0415 - loads kernels that nobody else needs here

    if picture.suffix not in (".svg", ".png"):
        print(f"{picture}: a picture is an .svg or a .png file.", file=sys.stderr)
        return 1
    found = report(seed)
    _show(found)
    try:
        if json_file is not None:
            json_file.write_text(json.dumps(found.as_json(), indent=2) + "\n")
        _draw(found, picture)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"Picture: {picture}")
    return 0 if found.ok else 1


def _show(found: Report) -> None:
    from rich.console import Console  # noqa: PLC0415 - a simulation prints no table
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=f"Simulated listeners, seed {found.seed}, {found.events:,} events")
    for name in ("what", "target", "measured", "tolerance", "ok", "source"):
        table.add_column(name, justify="right" if name in ("target", "measured", "tolerance") else "left")
    for one in found.targets:
        figures = (f"{one.target:.3g} {one.unit}", f"{one.measured:.3g} {one.unit}", f"{one.tolerance:g}")
        table.add_row(one.name, *figures, "yes" if one.ok else "NO", one.source)
    Console().print(table)


def _draw(found: Report, file: Path) -> None:
    import vl_convert  # noqa: PLC0415 - takes a second to load

    from producers.simulator.picture import picture  # noqa: PLC0415

    spec = picture(found)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".png":
        file.write_bytes(vl_convert.vegalite_to_png(spec, scale=2, allowed_base_urls=[]))
    else:
        file.write_text(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))
