"""Looking at a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.errors import ConfigError, DeliveryError
from collector.schema import load_schema
from collector.sinks.inventory import read_or_raise, reading
from collector.sinks.store import Store


def test_it_changes_nothing(tmp_path: Path) -> None:
    """Temporary tables are allowed."""
    path = tmp_path / "store.db"
    with Store(path, load_schema("conferencing")), reading(path) as db:
        assert db.execute("SELECT count(*) FROM conferencing").fetchone() == (0,)
        db.execute("CREATE TEMP TABLE mine (n)")
        assert db.execute("PRAGMA temp_store").fetchone() == (2,)
    with reading(path) as db, pytest.raises(DeliveryError, match="E503") as caught:
        read_or_raise(lambda: db.execute("DELETE FROM conferencing"))
    assert caught.value.__context__ is None


def test_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with pytest.raises(ConfigError, match="E203"), reading(path):
        pass
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DeliveryError, match="E501"), reading(path):
        pass
    path.unlink()
    path.touch()
    with reading(path) as db, pytest.raises(DeliveryError, match="E501"):
        read_or_raise(lambda: db.execute("SELECT * FROM nothing"))
