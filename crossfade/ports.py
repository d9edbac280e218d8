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


def reserve(preferred: int) -> int:
    """The first free port of 127.0.0.1 from the preferred one upwards, and ours until this process ends.

    Two runs that start together would find the same ports free before either listens. So a run marks a port that it is
    going to use by holding the UDP port of the same number, which nobody else can bind then. Raises PortTakenError when
    200 ports in a row are taken.
    """
    for port in range(preferred, min(preferred + _SEARCHED, 1 << 16)):
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        if is_free(port):
            _marks.append(mark)
            return port
        mark.close()
    raise PortTakenError(f"The ports {preferred} to {preferred + _SEARCHED - 1} are all taken: stop some programs.")


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
