"""How exact a place the doors let in: a city at most by default, and never an address of the network."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

Precision = Literal["none", "city", "told"]

_NUMBER = r"[+-]?\d{1,3}(?:\.\d*)?"
_COORDINATES = re.compile(rf"(?:geo:)?\s*({_NUMBER})\s*[,; ]\s*({_NUMBER})\s*")
_PARTS_MAX = 2


def coarsened(location: str, precision: Precision) -> str | None:
    """The place as coarse as `precision` says; None when nothing of it may stay.

    `city`: of parts between commas, those with digits (streets, house numbers, postal codes) go, and of the rest the
    last two stay (`Turmstr. 5, Moabit, Berlin, Germany` is `Berlin, Germany`); coordinates are rounded to a tenth of a
    degree, which is 11 km. `none` keeps nothing: the country has a field of its own. `told` keeps what the client
    tells. An IP address is never kept.
    """
    if precision == "none" or _is_ip_address(location):
        return None
    if precision == "told":
        return location
    if at := _COORDINATES.fullmatch(location):
        return ",".join(f"{float(number):.1f}" for number in at.groups())
    parts = [part.strip() for part in re.split("[,;\n]", location)]
    named = [part for part in parts if part and not any(map(str.isdigit, part)) and not _is_ip_address(part)]
    return ", ".join(named[-_PARTS_MAX:]) or None


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True
