"""Which ports of this machine are free, and who holds the others."""

from __future__ import annotations

import socket

import psutil

from crossfade.problem import ProblemError

_SEARCHED = 200
_marks: list[socket.socket] = []


class PortTakenError(ProblemError):
    """A port cannot be had; the message says who holds it and what to do."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def reserve(preferred: int, count: int = 1) -> int:
    """The first of `count` free ports in a row on 127.0.0.1, from the preferred one upwards, ours until we end.

    Two runs that start together would find the same ports free before either listens. So a run marks a port that it is
    going to use by holding the UDP port of the same number, which nobody else can bind then. Raises PortTakenError when
    200 ports in a row are taken.
    """
    for first in range(preferred, min(preferred + _SEARCHED, (1 << 16) - count + 1)):
        marks: list[socket.socket] = []
        for port in range(first, first + count):
            if (mark := _marked(port)) is None:
                break
            marks.append(mark)
        else:
            _marks.extend(marks)
            return first
        for mark in marks:
            mark.close()
    raise PortTakenError(f"The ports {preferred} to {preferred + _SEARCHED - 1} are all taken: stop some programs.")


def _marked(port: int) -> socket.socket | None:
    mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        mark.bind(("127.0.0.1", port))
    except OSError:
        mark.close()
        return None
    if is_free(port):
        return mark
    mark.close()
    return None


def holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    break
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return "another program"


def need(port: int, host: str, way_out: str) -> None:
    """Raises PortTakenError with a way out when nobody could listen there."""
    if is_free(port, host):
        return
    raise PortTakenError(f"Port {port} is taken by {holder(port)}. Stop it, or {way_out}.")
