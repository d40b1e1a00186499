"""Open the vault of a recorder's directory, with the keys of its ledger, which sign manifests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from collector.errors import ConfigError
from collector.ledger.signing import load_key
from collector.recording.vault import Vault
from collector.sqlite.connection import connect_to_read

VAULT_NAME = "vault"
"""The directory of the vault in that of the recorder."""
_LEDGER_NAME = "spool.db"


def open_vault(
    directory: Path,
    *,
    bucket: str | None = None,
    options: Mapping[str, str] | None = None,
    queue_bytes: int = 1 << 30,
    on_erased: Callable[[str, bool], None] = lambda recording, is_whole: None,
    is_reader: bool = False,
) -> Vault:
    """Open the vault; a reader may, while another process has it, and changes nothing.

    Raises ``InUse`` and ``ConfigError`` as ``Vault`` does, and E203 without a key of the ledger.
    """
    signer = load_key(directory, None)
    if signer is None:
        raise ConfigError("E203", "the key of the recorder's ledger cannot be used")
    return Vault(
        directory / VAULT_NAME,
        signer=signer,
        bucket=bucket,
        options=options,
        queue_bytes=queue_bytes,
        trusted=_signers(directory / _LEDGER_NAME),
        on_erased=on_erased,
        is_reader=is_reader,
    )


def _signers(ledger: Path) -> list[str]:
    """Return the public keys that the ledger has named so far."""
    db = connect_to_read(ledger)
    if db is None:
        return []
    with closing(db):
        rows = db.execute("SELECT facts FROM entries WHERE kind = 'key'").fetchall()
    return [str(row[0]).removeprefix("public ") for row in rows]
