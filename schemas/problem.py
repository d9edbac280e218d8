"""What a process stops for, with one plain line, when something it depends on is away."""

from __future__ import annotations


class KafkaUnavailableError(RuntimeError):
    """No broker or registry answers; the message says where it was looked for and what to do."""
