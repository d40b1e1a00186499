"""Faults that come from outside a sidecar's process, and senders that go on meanwhile.

System calls fail by strace's hand, disks are small file systems of their own, and the clock is
moved by libfaketime. Nothing of ours is patched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from random import Random
from threading import Event
from typing import NamedTuple

from collector.errors import CAUSES
from tests.conftest import required, required_root
from tests.sidecar.account import Account
from tests.support.deadline import WAIT_SECONDS
from tests.support.programs import threads
from tests.support.sidecar import COMMAND, Answer, Sidecar

Say = Callable[[str], None]
"""Writes a line past the capture of output."""

_HIT = re.compile(r"\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>).* = -1 (E\w+) .*\(INJECTED\)").fullmatch
_SENDERS = 3
_LOOK_SECONDS = 0.01


class Fault(NamedTuple):
    """A system call that fails in a thread, from its call of one number to that of another."""

    call: str
    error: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.call}:error={self.error}:when={self.first}..{self.last}"


@dataclass(frozen=True)
class Tracer:
    """strace, as it stands before a command: faults of the calls that concern some files."""

    log: Path
    paths: Sequence[Path]
    faults: Sequence[Fault]

    @property
    def command(self) -> list[str]:
        """The sidecar's, traced; it is the process that is started, strace a grandchild of it."""
        required_root()
        strace = shutil.which("strace")
        if strace is None:
            required("strace")
        calls = ",".join({fault.call for fault in self.faults})
        options = ["-D", "-f", "--seccomp-bpf", "-qq", "-o", self.log, "-e", f"trace={calls}"]
        options += [part for fault in self.faults for part in ("-e", f"inject={fault}")]
        options += [part for path in self.paths for part in ("-P", path)]
        return [str(strace), *map(str, options), *COMMAND]

    def counted(self) -> Counter[str]:
        """How often each call was made to fail, as ``call error``, by strace's own account."""
        found: Counter[str] = Counter()
        if not self.log.exists():
            return found
        for line in self.log.read_text(errors="replace").splitlines():
            if hit := _HIT(line):
                found[f"{hit[1]} {hit[2]}"] += 1
        return found

    @property
    def over(self) -> bool:
        """Whether each fault came about as often as it was to."""
        hits = self.counted()
        return all(hits[f"{f.call} {f.error}"] > f.last - f.first for f in self.faults)


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system (ext4) of that size in a file, mounted there."""
    image = place.with_name(f"{place.name}.img")
    place.mkdir()
    with image.open("wb") as handle:
        handle.truncate(megabytes << 20)
    make = ["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)]
    mount = ["mount", "-o", "loop", str(image), str(place)]
    try:
        is_made = all(
            subprocess.run(step, capture_output=True, check=False, timeout=WAIT_SECONDS).returncode
            == 0
            for step in (make, mount)
        )
    except FileNotFoundError:
        is_made = False
    if not is_made:
        required("the right to mount a file system in a file, or mkfs.ext4")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=WAIT_SECONDS)


def fill(path: Path) -> None:
    """Leave no room at all on a disk."""
    with path.open("ab", buffering=0) as handle:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while handle.write(b"x" * size):
                    pass


@dataclass
class Sending:
    """What senders saw: answers by status, and what ``/readyz`` said in turn."""

    sidecar: Sidecar
    account: Account
    random: Random
    ended: Event = field(default_factory=Event)
    statuses: Counter[int] = field(default_factory=Counter)
    ready: Counter[int] = field(default_factory=Counter)
    unlike: list[Answer] = field(default_factory=list)

    def send(self) -> None:
        """Send one request after another; whoever is refused waits a moment, then goes on."""
        while not self.ended.is_set():
            parcel = self.account.parcel(self.random.randint(1, 30), self.random.choice((0, 1, 3)))
            try:
                answer = self.sidecar.send(parcel.body)
            except (OSError, HTTPException):
                self.statuses[0] += 1
                return
            parcel.answered(answer.status, answer.body)
            self.statuses[answer.status] += 1
            if answer.status == 200:
                continue
            code = answer.json["error"]["code"]
            if (answer.status, code) != (503, "E506") or int(answer.headers["retry-after"]) < 1:
                self.unlike.append(answer)
            self.ended.wait(_LOOK_SECONDS)

    def look(self) -> None:
        """Ask for health again and again."""
        while not self.ended.is_set():
            with suppress(OSError, HTTPException):
                self.ready[self.sidecar.admin("/readyz").status] += 1
            self.ended.wait(_LOOK_SECONDS)


@contextmanager
def sending(sidecar: Sidecar, account: Account, random: Random) -> Iterator[Sending]:
    """Senders that send as long as this goes on; then nothing is under way any more."""
    load = Sending(sidecar, account, random)
    with threads(*[load.send] * _SENDERS, load.look):
        try:
            yield load
        finally:
            load.ended.set()
    assert load.unlike == []


class Clock:
    """The time of a process that runs under ``environ``: real time, moved by ``move``. It is not
    confined, as it reads the setting from a file at each look at the clock."""

    def __init__(self, library: Path, offset: Path) -> None:
        self._offset = offset
        self.move(0)
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "COLLECTOR__SANDBOX": "off",
        }

    def move(self, seconds: int) -> None:
        """It is so many seconds later than it is."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._offset)


def clock(directory: Path) -> Clock:
    """A clock whose setting lies in a directory."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    named = os.environ.get("COLLECTOR_FAKETIME")
    if named:
        found = [Path(named)]
    if not found:
        required("libfaketime")
    return Clock(found[0], directory / "offset")


def failures(sidecar: Sidecar, sink: str) -> float:
    """How often a sink has failed, for whatever cause."""
    name = "collector_sink_failures_total"
    return sum(metric(sidecar, f'{name}{{cause="{cause}",sink="{sink}"}}') for cause in CAUSES)


def metric(sidecar: Sidecar, start: str) -> float:
    """The sum of the metrics whose line begins so."""
    lines = sidecar.admin("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))
