"""What a person says about broken records: a file of repaired events, or a Python function that repairs them; pure.

`FILE.jsonl`: one object a line, `{"dead_letter_id": ..., "event": {...}}`. The object `event` replaces what was
refused; letters without a line are left alone, and so are lines whose event is null.
`FILE.py`: `def fix(event: dict) -> dict | None`. It gets each event that can be read, and None leaves the letter alone.
"""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crossfade.problem import ProblemError

Event = dict[str, Any]
Repair = Callable[[str, Event | None], Event | None]
"""Gives the repaired event of a letter (its id, and the event when it can be read), or None: not to be replayed."""


def repairs(file: Path) -> Repair:
    """Reads the file; raises ProblemError when it says nothing that can be understood."""
    return _function(file) if file.suffix == ".py" else _lines(file)


def _function(file: Path) -> Repair:
    try:
        fix = runpy.run_path(str(file)).get("fix")
    except Exception as error:  # whatever the person's own code raises
        raise ProblemError(f"{file} cannot be run: {type(error).__name__}: {error}") from None
    if not callable(fix):
        raise ProblemError(f"{file} has no function fix(event).")

    def repaired(dead_letter_id: str, event: Event | None) -> Event | None:
        if event is None:
            return None
        try:
            found = fix(copy.deepcopy(event))
        except Exception as error:  # as above
            raise ProblemError(f"{file}: fix failed at {dead_letter_id}: {type(error).__name__}: {error}") from None
        if found is not None and not isinstance(found, dict):
            raise ProblemError(f"{file}: fix gave {type(found).__name__} for {dead_letter_id}, not a dict or None.")
        return found

    return repaired


def _lines(file: Path) -> Repair:
    found: dict[str, Event | None] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            known = isinstance(row["dead_letter_id"], str) and isinstance(row["event"], Mapping | None)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise ProblemError(f'{file}, line {number}: it is not {{"dead_letter_id": ..., "event": {{...}}}}.')
        found[row["dead_letter_id"]] = row["event"]
    return lambda dead_letter_id, _: found.get(dead_letter_id)
