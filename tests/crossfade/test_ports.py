"""Ports: found, reserved, and named when they are taken."""

from __future__ import annotations

import socket

import pytest

from crossfade import ports
from crossfade.ports import PortTakenError


def test_a_taken_port_is_named_with_its_holder() -> None:
    """The message says the port, who listens there, and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"Port {port} is taken by .*process.*\. Stop it, or choose another"):
            ports.need(port, "127.0.0.1", "choose another with --port")


def test_reserved_ports_differ() -> None:
    """Two processes that ask for the same preferred port at the same time get two ports."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        first, second = ports.reserve(taken), ports.reserve(taken)
    assert taken < first < second
    assert ports.is_free(first)


def test_a_port_that_lingers_is_free() -> None:
    """A port whose last connections are still closing can be listened on again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    assert ports.is_free(port)
