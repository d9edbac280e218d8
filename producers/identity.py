"""Replaces a user id by a keyed pseudonym, so that nobody behind the door can tell who listens."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from schemas.settings import Settings

PSEUDONYM_CHARACTERS = 32
_ATTEMPTS, _AGAIN_S = 20, 0.05
TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
"""A tenant's name is a file name too."""


class Pseudonyms:
    """Pseudonyms of one tenant: the same user and secret give the same pseudonym, on every way in."""

    def __init__(self, secret: bytes, remembered: int = 65_536) -> None:
        self._secret = secret
        self.of = lru_cache(remembered)(self._of)

    def _of(self, user_id: str) -> str:
        """HMAC-SHA-256 of the user id, hex, the first 32 characters."""
        return hmac.digest(self._secret, user_id.encode(), "sha256").hex()[:PSEUDONYM_CHARACTERS]


def pseudonyms(settings: Settings, tenant: str) -> Pseudonyms:
    """Pseudonyms with the tenant's secret: the one of the settings, else the one kept in the data directory."""
    stated = settings.pseudonym_secrets.get(tenant)
    if stated is not None:
        return Pseudonyms(stated.get_secret_value().encode())
    if not re.match(TENANT_PATTERN, tenant):
        raise ValueError(f"tenant {tenant!a}: a name is letters, digits, dots, dashes and underscores")
    path = settings.data_dir / "secrets" / f"pseudonym-{tenant}"
    return Pseudonyms(kept(path, lambda: secrets.token_hex(32)).encode())


def kept(path: Path, make: Callable[[], str]) -> str:
    """The text of a private file (mode 0600), made once: of several processes that start together, one wins.

    Raises OSError when the directory cannot be written, and ValueError for an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for _ in range(_ATTEMPTS):
        try:
            text = path.read_text().strip()
            if text:
                return text
            time.sleep(_AGAIN_S)  # another program may be writing it
            continue
        except FileNotFoundError:
            pass
        mine = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(mine, path)  # fails when another process was first, and never shows half a file
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    raise ValueError(f"{path} is empty: delete it, and a new one is made")
