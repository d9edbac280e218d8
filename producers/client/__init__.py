"""Sends listening events to a collector from any Python program; needs the standard library only (docs/clients.md)."""

from .client import Crossfade
from .progress import State
from .sender import Rejected
from .store import StoreError

__all__ = ["Crossfade", "Rejected", "State", "StoreError"]
