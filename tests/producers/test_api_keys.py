"""API keys: who may send, known by hash only."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

from producers.collector.keys import Client, Keys
from schemas.settings import Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_development_key_is_made(tmp_path: Path) -> None:
    """The first start makes a private key that works; everything else is nobody."""
    keys = Keys(Settings(data_dir=tmp_path))
    assert keys.client("Bearer nothing") is None
    file = tmp_path / "dev-api-key"
    key = file.read_text().strip()
    assert key.startswith("cf_dev_")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys.client(f"Bearer {key}") == Client("default", "development")
    assert keys.client(f"bearer  {key} ") == Client("default", "development")
    assert [keys.client(text) for text in (key, f"Basic {key}", "Bearer ", "", f"Bearer {key}x")] == [None] * 5


def test_an_existing_development_key_is_kept(tmp_path: Path) -> None:
    """The key that start_local printed stays valid."""
    (tmp_path / "dev-api-key").write_text("cf_dev_mine\n")
    assert Keys(Settings(data_dir=tmp_path)).client("Bearer cf_dev_mine") is not None


def test_keys_of_tenants_come_and_go_without_a_restart(tmp_path: Path) -> None:
    """api-keys.json holds hashes; a change counts a second later, and a broken file admits nobody of it."""
    clock = Clock()
    keys = Keys(Settings(data_dir=tmp_path), clock)
    assert keys.client("Bearer secret") is None
    file = tmp_path / "api-keys.json"
    digest = hashlib.sha256(b"secret").hexdigest()
    file.write_text(json.dumps({digest.upper(): {"tenant": "radio", "name": "app"}}))
    assert keys.client("Bearer secret") is None
    clock.now += 2
    assert keys.client("Bearer secret") == Client("radio", "app")
    file.write_text("{broken")
    clock.now += 2
    assert keys.client("Bearer secret") is None
    file.unlink()
    clock.now += 2
    assert keys.client("Bearer secret") is None
    assert keys.client(f"Bearer {(tmp_path / 'dev-api-key').read_text().strip()}") is not None
