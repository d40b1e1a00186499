"""Check the promises about recordings in a recorder's directory. The recorder may be running;
nothing is changed."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import NamedTuple, get_args

from collector.claims.document import RECORDING_CHECKS, Check
from collector.claims.findings import ACCESS, NO_RECORDER, ClaimFinding
from collector.errors import CollectorError
from collector.files import foreign_entries, is_locked, walk
from collector.ledger import opened
from collector.ledger.entry import Entry
from collector.ledger.signing import KEY_NAME, is_key
from collector.recording import keys, store
from collector.recording.grant import Grant
from collector.recording.names import KINDS, MIXED, Storage, is_name
from collector.recording.notices import DIGESTS
from collector.recording.refusals import Refused
from collector.recording.states import STATES, CloseReason
from collector.recording.store import FILE_NAME, read_rows
from collector.recording.vault import VAULT_NAME, Vault, opened_to_read
from collector.recording.verification import verify
from collector.spool.lock import FILE_NAME as LOCK_NAME
from collector.sqlite.compaction import remove_copies
from collector.sqlite.connection import connect_to_read, decode_leniently
from collector.sqlite.definition import Definition
from collector.sqlite.foreign import LONGEST_BYTES, foreign_parts

_Findings = Iterator[tuple[Check, ClaimFinding]]
_BACKUP = "Restore the recorder's directory from a backup, or delete the recordings."
_WHO = "Find out who changed the recorder's files, and report it as SECURITY.md says."
_LATE_SECONDS = 2 * 3600.0
"""How late a recording may be erased, as with records (docs/rights.md)."""


class Place(NamedTuple):
    """A recorder's directory, and its bucket with options, if it has one."""

    directory: Path
    bucket: str | None = None
    options: Mapping[str, str] | None = None


@dataclass
class _History:
    """What the ledger says about a recording: how often each action was done, and which members
    stay."""

    done: Counter[str] = field(default_factory=Counter)
    staying: set[str] = field(default_factory=set)
    unknown_notices: int = 0


def look(place: Place) -> dict[Check, tuple[ClaimFinding, ...]]:
    """Look at a recorder's directory, and return the findings of each check, or a note if it has no
    recording."""
    if not (place.directory / FILE_NAME).is_file():
        if _is_any(place.directory):
            message = "The recorder's directory has files but no list of recordings."
            finding = ClaimFinding(message, is_open=True, advice=_BACKUP)
            return dict.fromkeys(RECORDING_CHECKS, (finding,))
        return dict.fromkeys(RECORDING_CHECKS, (ClaimFinding(NO_RECORDER, is_note=True),))
    found: dict[Check, list[ClaimFinding]] = {check: [] for check in RECORDING_CHECKS}
    try:
        for check, finding in directory_findings(place):
            found[check].append(finding)
    except (CollectorError, Refused, OSError, sqlite3.Error):
        message = "The recorder's directory could not be read."
        finding = ClaimFinding(message, is_open=True, advice=ACCESS)
        return dict.fromkeys(RECORDING_CHECKS, (finding,))
    return {check: tuple(findings) for check, findings in found.items()}


def _is_any(directory: Path) -> bool:
    """Return whether a directory without a list of recordings has any file or anything
    unreadable."""
    return any(True for _ in walk(directory))


def counts(directory: Path) -> dict[str, dict[str, int]] | None:
    """Return the counts of a recorder's ledger: recordings, choices and accesses; ``None`` without
    a ledger. Raises ``DeliveryError`` E507."""
    if not (directory / FILE_NAME).is_file():
        return None
    recordings, choices, accesses = defaultdict[str, set[str]](set), Counter[str](), Counter[str]()
    with opened(directory / FILE_NAME) as ledger:
        for entry in ledger.entries():
            what, outcome = entry.fact("what") or "", entry.fact("outcome")
            if entry.kind == "recording":
                recordings[what].add(entry.fact("recording") or "")
                choices[what] += entry.fact("who") is not None
            elif entry.kind == "access":
                accesses["done" if outcome == "done" else "refused"] += 1
    erased, started = recordings["erase"], recordings["start"]
    return {
        "recordings": {
            "kept": len(started - erased),
            "unstarted": len(recordings["request"] - started - erased),
            "erased": len(erased),
        },
        "choices": {each: choices[each] for each in ("stay", "leave", "withdraw")},
        "accesses": {each: accesses[each] for each in ("done", "refused")},
    }


def directory_findings(place: Place) -> _Findings:
    """Yield each fault of a recorder's directory with the check that reports it."""
    yield from _modes(place.directory)
    yield from _others(place.directory)
    histories = defaultdict[str, _History](_History)
    with opened(place.directory / FILE_NAME) as ledger:
        flaws = ledger.verify().flaws
        for entry in ledger.entries():
            _follow(histories, entry)
    for flaw in flaws:
        message = f"The recorder's ledger is damaged or was changed ({flaw})."
        yield "access", ClaimFinding(message, advice=_WHO)
    yield from _recordings(place, histories)


_KEYS = f"{VAULT_NAME}/keys.db"
_COPY = re.compile(rf"{_KEYS}\.compact-[0-9a-f]{{16}}").fullmatch
_OWN: Mapping[str, Callable[[str], object]] = {
    "file": re.compile(
        r"collector\.lock|ledger\.key(\.new)?(\.part)?|subjects\.key(\.part)?"
        r"|recorder\.db(-wal|-shm)?|vault/(master\.key(\.new)?|keys\.db(-wal|-shm)?"
        r"|objects/recordings/[0-9a-f]{32}/[0-9a-f]{32}/[0-9]+\.age)"
    ).fullmatch,
    "directory": re.compile(
        r"vault(/objects(/recordings(/[0-9a-f]{32}(/[0-9a-f]{32})?)?)?)?"
    ).fullmatch,
    "socket": "control.sock".__eq__,
}
"""Matches the entries of a recorder's directory, by their kind."""
_LOOKS, _PAUSE = 5, 0.05
"""How often to look, and seconds between: a running recorder makes and removes files meanwhile."""
_MASTER = re.compile(rb"[0-9a-f]{64}\n|\0{65}").fullmatch
"""Matches a master key, and an overwritten one."""
_CONTENTS: Mapping[str, Callable[[Path], bool]] = {
    LOCK_NAME: lambda path: not path.stat().st_size,
    KEY_NAME: is_key,
    f"{KEY_NAME}.new": is_key,
    f"{KEY_NAME}.part": lambda path: not path.stat().st_size or is_key(path),
    f"{KEY_NAME}.new.part": lambda path: not path.stat().st_size or is_key(path),
    store.SECRET_NAME: lambda path: path.stat().st_size == store.SECRET_BYTES,
    f"{store.SECRET_NAME}.part": lambda path: path.stat().st_size <= store.SECRET_BYTES,
    f"{VAULT_NAME}/master.key": lambda path: _MASTER(path.read_bytes()) is not None,
    f"{VAULT_NAME}/master.key.new": lambda path: (
        not path.stat().st_size or _MASTER(path.read_bytes()) is not None
    ),
}
"""For each file that nothing else checks: whether it has only what the recorder writes."""
_DATABASES = {FILE_NAME: Definition(store.STATEMENTS), _KEYS: Definition(keys.STATEMENTS)}
"""The tables that the databases must have."""


def _is_snapshot(text: str) -> bool:
    """Return whether a text is the snapshot of a grant, and every text in it is a name or a
    word."""
    try:
        snapshot = Grant.restored(json.loads(text)).snapshot()
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, Refused):
        return False
    return store.encode(snapshot) == text and all(map(is_name, _texts(snapshot)))


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value, including the names of members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value:
            yield from _texts(each)
        if isinstance(value, dict):
            yield from _texts([*value.values()])


_ID = re.compile(r"[0-9a-f]{32}").fullmatch
_ID_OR_NONE = re.compile(r"([0-9a-f]{32})?").fullmatch
_HASH = re.compile(r"([0-9a-f]{64})?").fullmatch
_MARK = re.compile(rf"[0-9a-f]{{64}}|{MIXED}").fullmatch
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}").fullmatch
_REASONS = {*get_args(CloseReason), "host"}
_TEXTS: Mapping[str, Mapping[str, Mapping[str, Callable[[str], object]]]] = {
    FILE_NAME: {
        "recordings": {
            "id": _ID,
            "meeting": is_name,
            "state": STATES.__contains__,
            "snapshot": _is_snapshot,
        },
        "events": {
            "recording": _ID,
            "state": STATES.__contains__,
            "reason": _REASONS.__contains__,
        },
        "manifests": {
            "recording": _ID,
            "state": {"open", "finished", "erased"}.__contains__,
            "storage": get_args(Storage).__contains__,
            "recipient": _RECIPIENT,
            "hash": _HASH,
        },
        "lines": {"recording": _ID, "object": _ID},
        "tasks": {
            "what": get_args(store.What).__contains__,
            "recording": _ID_OR_NONE,
            "object": _ID_OR_NONE,
        },
    },
    _KEYS: {
        "master": {"fingerprint": _HASH},
        "recordings": {"recording": _ID},
        "tracks": {
            "recording": _ID,
            "object": _ID,
            "name": is_name,
            "kind": KINDS.__contains__,
            "owner_mark": _MARK,
            "recipient": _RECIPIENT,
        },
    },
}
"""What texts the databases may have, by file, table and column. Hash chains protect the texts of
the ledger and the manifests."""


def _others(directory: Path) -> _Findings:
    """Check that the directory has no unknown entries, and that its files and databases hold only
    what the recorder writes."""
    number = sum(foreign_parts(directory / name, each) for name, each in _DATABASES.items())
    number += sum(_foreign_texts(directory / name, each) for name, each in _TEXTS.items())
    number += _count_entries(directory)
    if number:
        message = "The recorder's directory has files or parts of files that Collector did not make"
        advice = "Find out what they are. Move them elsewhere, or delete them."
        yield "storage", ClaimFinding(f"{message} ({number}).", is_open=True, advice=advice)


def _count_entries(directory: Path) -> int:
    """Count entries that the recorder did not make, and files with foreign parts. A copy of the
    keys counts too, unless a process is writing it."""
    with suppress(OSError):
        remove_copies(directory / _KEYS)  # as the next start does after a kill

    def is_file(name: str) -> bool:
        is_copy = _COPY(name) and is_locked(directory / name)
        return bool(is_copy or _OWN["file"](name))

    for attempt in range(_LOOKS):
        sleep(_PAUSE * bool(attempt))
        found = {*foreign_entries(directory, {**_OWN, "file": is_file})}
        for name, has_only_own in _CONTENTS.items():
            with suppress(FileNotFoundError):
                if (path := directory / name).is_file() and not has_only_own(path):
                    found.add(path)
        if not found:
            break
    return len(found)


def _foreign_texts(path: Path, tables: Mapping[str, Mapping[str, Callable[[str], object]]]) -> int:
    """Count the columns with texts that the recorder does not write. Raises ``sqlite3.Error``."""
    if not path.is_file() or (db := connect_to_read(path)) is None:
        return 0  # counted already
    with closing(decode_leniently(db)):
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_BYTES)
        return sum(
            not all(text is None or is_own(text) for (text,) in _distinct(db, table, column))
            for table, columns in tables.items()
            for column, is_own in columns.items()
        )


def _distinct(db: sqlite3.Connection, table: str, column: str) -> Iterator[tuple[str | None]]:
    with suppress(sqlite3.OperationalError):  # a missing table is counted already
        yield from db.execute(f"SELECT DISTINCT {column} FROM {table}")  # noqa: S608 - constants


def _modes(directory: Path) -> _Findings:
    """Check that no other user of the machine can access a file."""
    files = (each.path for each in walk(directory) if each.kind in ("file", "directory"))
    if shared := sum(bool(each.stat().st_mode & 0o077) for each in (directory, *files)):
        message = f"Other users of the machine can open files of the recorder ({shared})."
        advice = "Make the directory its owner's alone: `chmod -R go= DIR`."
        yield "access", ClaimFinding(message, advice=advice)


def _follow(histories: Mapping[str, _History], entry: Entry) -> None:
    """Add an entry to the history of its recording."""
    if entry.kind != "recording" or (recording := entry.fact("recording")) is None:
        return
    history, what = histories[recording], entry.fact("what") or ""
    history.done[what] += 1
    who = entry.fact("who")
    if what == "stay" and who is not None:
        history.staying.add(who)
        history.unknown_notices += entry.fact("notice") not in DIGESTS.values()
    if what in ("leave", "withdraw") and who is not None:
        history.staying.discard(who)


def _recordings(place: Place, histories: Mapping[str, _History]) -> _Findings:
    """Compare the stored recordings with the actions in the ledger."""
    rows, now = read_rows(place.directory), time.time()
    closed = [each for each in rows if each.state == "closed"]
    late = sum(each.due is None or each.due + _LATE_SECONDS < now for each in closed)
    if late:
        message = f"Recordings are still there after their retention ({late})."
        yield "storage", ClaimFinding(message, advice="Start the recorder, which erases them.")
    unasked = sum(not histories[each.id].done["request"] for each in rows)
    if unasked:
        message = f"The ledger has no request by a host for {_recordings_of(unasked)}."
        yield "grant", ClaimFinding(message, advice=_WHO)
    listed = {each.id for each in rows}
    lost = sum(
        each.done["request"] > 0 and not each.done["erase"] and recording not in listed
        for recording, each in histories.items()
    )
    if lost:
        message = f"The recorder's file has lost {_recordings_of(lost)} that its ledger names."
        yield "access", ClaimFinding(message, advice=_BACKUP)
    if unknown := sum(histories[each.id].unknown_notices for each in rows):
        message = f"Members chose after a notice that Collector does not ship ({unknown} choices)."
        yield "notice", ClaimFinding(message, advice=_WHO)
    if not (place.directory / KEY_NAME).is_file():
        message = "The key that signs the recorder's ledger is missing."
        yield "access", ClaimFinding(message, is_open=True, advice=_BACKUP)
        return
    with opened_to_read(place.directory, bucket=place.bucket, options=place.options) as vault:
        full = vault.store.full()
        listed = {each.id for each in read_rows(place.directory)}  # they come first
        if unlisted := len(set(full) - listed):
            message = f"There is content of {_recordings_of(unlisted)} without a host's grant."
            yield "grant", ClaimFinding(message, advice=_WHO)
        for row in rows:
            if row.state != "erased":
                yield from _recording(vault, row.id, histories[row.id])
            elif verify(vault, row.id):
                message = "Content of an erased recording is still there."
                yield "storage", ClaimFinding(message, advice="Delete it from the storage by hand.")


def _recording(vault: Vault, recording: str, history: _History) -> _Findings:
    """Check that a recording was started, that its members chose to stay, and that it is intact."""
    tracks = vault.tracks(recording)
    if tracks and not history.done["start"]:
        message = "A recording has content, and by the ledger its host never started it."
        yield "grant", ClaimFinding(message, advice=_WHO)
    owners = {each.owner_mark for each in tracks} - {MIXED}
    if others := owners - history.staying:
        message = f"A recording has tracks of members who did not choose to stay ({len(others)})."
        yield "choice", ClaimFinding(message, advice=_WHO)
        yield "notice", ClaimFinding(message, advice=_WHO)
    try:
        findings = verify(vault, recording)
    except Refused:
        message = "The bucket of recordings could not be read."
        yield "access", ClaimFinding(message, is_open=True, advice=ACCESS)
        yield "storage", ClaimFinding(message, is_open=True, advice=ACCESS)
    else:
        for finding in findings:
            message = f"A recording does not match its manifest: {finding}."
            yield "access", ClaimFinding(message, advice=_WHO)


def _recordings_of(number: int) -> str:
    return f"{number:,} recording{'' if number == 1 else 's'}"
