"""Compare the recorder's file with its ledger, the manifests and the keys.

The file says who may read, when a recording is erased, and what a withdrawal destroys. Each of
these is also said elsewhere, under a chain or a signature: the ledger has the request, every
choice, the close and the erasure; a manifest's first line has the terms. What was changed in the
file alone, or put back to an earlier state, contradicts them. Findings name no member.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from collector.ledger import opened
from collector.recording.journal import FILE_NAME, read_marks
from collector.recording.refusals import Refused
from collector.recording.registry import Row, read_rows
from collector.recording.vault import Vault

_ATTEMPTS, _PAUSE = 5, 0.1
"""How often, and after how many seconds, is compared again: a recorder may be between two files."""
_LATE_SECONDS = 120.0
"""How much later than the ledger's minute of the close a recording may say that it was closed."""
_DESTROYS = ("destroy ", "erase")


@dataclass
class History:
    """What the ledger has of a recording: its host, each choice by the mark of its member, what was
    done, and the latest minute of any entry up to its close: a clock may be set back meanwhile, and
    a grant's time never goes back."""

    host: str | None = None
    choices: dict[str, str] = field(default_factory=dict[str, str])
    closed: float | None = None
    done: set[str] = field(default_factory=set[str])
    latest: float = 0.0

    def add(self, facts: Mapping[str, str], minute: float) -> None:
        """Add an entry."""
        what, who = facts.get("what", ""), facts.get("who")
        self.done.add(what)
        self.latest = max(self.latest, minute)
        if what in ("request", "accept"):
            self.host = who
        elif what in ("stay", "leave", "withdraw") and who is not None:
            self.choices[who] = "stay" if what == "stay" else "leave"
        elif what == "close":
            self.closed = self.latest


def histories(ledger: Path) -> dict[str, History]:
    """Return what a ledger has of each recording. Raises ``DeliveryError`` E507 and ``ConfigError``
    E203 as ``opened`` does."""
    found = defaultdict[str, History](History)
    with opened(ledger) as entries:
        for entry in entries.entries():
            if entry.kind == "recording" and (recording := entry.fact("recording")) is not None:
                found[recording].add(dict(entry.facts), _seconds(entry.minute))
    return found


def _seconds(minute: str) -> float:
    try:
        return datetime.fromisoformat(minute).timestamp()
    except ValueError:
        return 0.0  # the ledger does not hold, which its own verification says


def find_contradictions(directory: Path, vault: Vault) -> dict[str, list[str]]:
    """Return, for every recording of file or ledger, what contradicts: empty lists if nothing does.

    A recorder may be running. Raises ``ConfigError`` and ``DeliveryError`` where a file cannot be
    read.
    """
    found = dict[str, list[str]]()
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE * attempt)
        found = _compare(directory, vault)
        if not any(found.values()):
            break
    return found


def _compare(directory: Path, vault: Vault) -> dict[str, list[str]]:
    marks = read_marks(directory)
    noted, rows = histories(directory / FILE_NAME), read_rows(directory)
    found = dict[str, list[str]]()
    for row in rows:
        history = noted.pop(row.id, None) or History()
        for note in row.notes:
            history.add(dict(note.facts), time.time())
        found[row.id] = [*_of_row(row, history)]
        if row.state != "erased":
            stated = {"meeting": marks(f"meeting {row.meeting}")}
            found[row.id] += _of_vault(row, vault, stated)
    for recording, history in noted.items():
        if "request" in history.done and "erase" not in history.done:
            found[recording] = ["the ledger has it, and the recorder's file does not"]
    return found


def _of_row(row: Row, history: History) -> Iterator[str]:
    """Yield what contradicts in a row, and between it and the ledger."""
    grant = row.snapshot
    state, terms = grant["state"], grant["terms"]
    if (row.state, row.meeting) != (state["name"], terms["meeting"]):
        yield "the row and its grant name another state or meeting"
    if "request" not in history.done:
        yield "the ledger has no request of it"
        return
    is_ended = row.state in ("closed", "erased")
    if is_ended != (history.closed is not None):
        yield f"its state is {row.state}, and the ledger says otherwise"
    if (row.state == "erased") != ("erase" in history.done) and "erase" not in row.tasks:
        yield "the ledger says otherwise of its erasure"
    if grant["host"] != history.host:
        yield "its host is not the one of the ledger"
    choices = {each: of["choice"] for each, of in grant["members"].items()}
    chosen = {each: choice for each, choice in choices.items() if choice != "pending"}
    if row.state != "erased" and chosen != history.choices:
        yield "the choices of its members are not those of the ledger"
    yield from _of_times(row, terms, state, history)


def _of_times(
    row: Row, terms: Mapping[str, Any], state: Mapping[str, Any], history: History
) -> Iterator[str]:
    """Yield what contradicts in when a recording is to be erased."""
    if row.state != "closed":
        if row.due is not None:
            yield "it is to be erased, and is not closed"
        return
    latest = state["at"] + terms["retention"]
    is_due = row.due is not None and state["at"] < row.due <= latest
    if not is_due or (terms["storage"] == "cloud" and row.due != latest):
        yield "it is not to be erased when its retention ends"
    if history.closed is not None and state["at"] > history.closed + _LATE_SECONDS:
        yield "it was closed before the time that it states"


def _of_vault(row: Row, vault: Vault, stated: dict[str, str]) -> Iterator[str]:
    """Yield what contradicts between a grant and what is stored under it."""
    grant = row.snapshot
    terms = grant["terms"]
    stated |= {"kinds": " ".join(terms["kinds"]), "storage": terms["storage"]}
    stated |= {"retention": repr(terms["retention"])}
    if terms["recipient"] is not None:
        stated["recipient"] = terms["recipient"]
    try:
        written, tracks = vault.terms(row.id), vault.tracks(row.id)
    except Refused as refused:
        if row.state != "announced" or refused.code != "not_found":
            yield "the vault does not have it"
        return
    if written != stated:
        yield "its terms are not those of the manifest"
    is_pending = any(task.startswith(_DESTROYS) for task in row.tasks)
    for track in tracks:
        known = grant["tracks"].get(track.name)
        if known is None or (known["owner"], known["kind"]) != (track.owner_mark, track.kind):
            yield "a track is there whose owner or kind the grant does not state"
        elif known["is_destroyed"] and not is_pending:
            yield "a track is there that a withdrawal destroyed"
