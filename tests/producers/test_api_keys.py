"""API keys: who may send, known by hash only."""

from __future__ import annotations

import hashlib
import json
import stat
import threading
from pathlib import Path

import pytest

from producers.collector.keyring import Client, Keyring, KeyringError
from producers.collector.keys import Keys
from schemas.settings import Settings

NOW = "2026-01-15T09:30:00Z"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_development_key_is_made(tmp_path: Path) -> None:
    """The first start makes a private key that works; everything else is nobody."""
    keys = Keys(Settings(data_dir=tmp_path))
    assert keys.bearer("Bearer nothing") is None
    file = tmp_path / "dev-api-key"
    key = file.read_text().strip()
    assert key.startswith("cf_dev_")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys.client(key) == keys.bearer(f"Bearer {key}") == Client("default", "development", "dev")
    assert keys.bearer(f"bearer  {key} ") == Client("default", "development", "dev")
    assert [keys.bearer(text) for text in (key, f"Basic {key}", "Bearer ", "", f"Bearer {key}x")] == [None] * 5


def test_an_existing_development_key_is_kept(tmp_path: Path) -> None:
    """The key that start_local printed stays valid."""
    (tmp_path / "dev-api-key").write_text("cf_dev_mine\n")
    assert Keys(Settings(data_dir=tmp_path)).client("cf_dev_mine") is not None


def test_keys_of_tenants_come_and_go_without_a_restart(tmp_path: Path) -> None:
    """api-keys.json holds hashes; a change counts a second later, and a broken file admits nobody of it and says so."""
    clock = Clock()
    keys = Keys(Settings(data_dir=tmp_path), clock)
    assert keys.client("secret") is None
    file = tmp_path / "api-keys.json"
    digest = hashlib.sha256(b"secret").hexdigest()
    file.write_text(json.dumps({digest.upper(): {"tenant": "radio", "name": "app"}}))
    assert keys.client("secret") is None
    clock.now += 2
    assert keys.client("secret") == Client("radio", "app", digest[:8])
    file.write_text("{broken")
    clock.now += 2
    assert keys.client("secret") is None
    assert "api-keys.json" in keys.problem
    file.unlink()
    clock.now += 2
    assert keys.client("secret") is None
    assert keys.problem == ""
    assert keys.client((tmp_path / "dev-api-key").read_text().strip()) is not None


def test_a_created_key_works_until_it_is_revoked(tmp_path: Path) -> None:
    """A made key has its scope, tenant and rate; the file knows its hash and last four characters, not the key."""
    clock, settings = Clock(), Settings(data_dir=tmp_path)
    keyring, keys = Keyring(settings), Keys(settings, clock)
    key, made = keyring.create("radio app", "radio", "test", 500, NOW)
    assert keys.client(key) == made
    assert (made.tenant, made.name, made.scope, made.rate_per_s, made.created) == (
        "radio",
        "radio app",
        "test",
        500,
        NOW,
    )
    assert key.startswith("cf_test_")
    assert key.endswith(made.ends_with)
    text = keyring.file.read_text()
    assert key not in text
    assert stat.S_IMODE(keyring.file.stat().st_mode) == 0o600
    other, _ = keyring.create("web", "default", "write", None, NOW)
    assert [client.name for client in keyring.clients().values()] == ["radio app", "web"]
    assert keyring.revoke(made.id) == made
    clock.now += 2
    assert keys.client(key) is None
    assert keys.client(other) is not None
    with pytest.raises(KeyringError, match="no key"):
        keyring.revoke(made.id)


@pytest.mark.parametrize("tenant", ["", "../up", "a b", "radio\n", "x" * 129])
def test_a_tenant_that_cannot_be_named_gets_no_key(tmp_path: Path, tenant: str) -> None:
    """A tenant's name is a file name too: others are refused when the key is made, not when it is used."""
    with pytest.raises(KeyringError, match="tenant"):
        Keyring(Settings(data_dir=tmp_path)).create("app", tenant, "write", None, NOW)


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    """Two administrators at once lose none of each other's keys."""
    keyring = Keyring(Settings(data_dir=tmp_path))
    makers = [
        threading.Thread(target=keyring.create, args=(f"app {n}", "default", "write", None, NOW)) for n in range(16)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert {client.name for client in keyring.clients().values()} == {f"app {n}" for n in range(16)}
