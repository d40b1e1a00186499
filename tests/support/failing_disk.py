"""Faults from outside a sidecar's process, and senders that keep sending meanwhile.

strace makes system calls fail, disks are small file systems, and libfaketime moves the clock.
Nothing of ours is patched.
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
"""Writes a line to the terminal although pytest captures output."""

_HIT = re.compile(r"\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>).* = -1 (E\w+) .*\(INJECTED\)").fullmatch
_SENDERS = 3
_LOOK_SECONDS = 0.01


class Fault(NamedTuple):
    """A system call that fails in a thread, from its first to its last failing call by number."""

    call: str
    error: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.call}:error={self.error}:when={self.first}..{self.last}"


@dataclass(frozen=True)
class Tracer:
    """strace before a command, with faults in calls on certain files."""

    log: Path
    paths: Sequence[Path]
    faults: Sequence[Fault]

    @property
    def command(self) -> list[str]:
        """The sidecar's command under strace. The started process is the sidecar; strace is its
        grandchild."""
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
        """How often strace made each call fail, as ``call error``, by its own log."""
        found: Counter[str] = Counter()
        if not self.log.exists():
            return found
        for line in self.log.read_text(errors="replace").splitlines():
            if hit := _HIT(line):
                found[f"{hit[1]} {hit[2]}"] += 1
        return found

    @property
    def over(self) -> bool:
        """Whether each fault occurred as often as planned."""
        hits = self.counted()
        return all(hits[f"{f.call} {f.error}"] > f.last - f.first for f in self.faults)


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """Mount an ext4 file system of this size from a file."""
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
    """Fill a disk completely."""
    with path.open("ab", buffering=0) as handle:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while handle.write(b"x" * size):
                    pass


@dataclass
class Sending:
    """What senders saw: answers by status, and the successive answers of ``/readyz``."""

    sidecar: Sidecar
    account: Account
    random: Random
    ended: Event = field(default_factory=Event)
    statuses: Counter[int] = field(default_factory=Counter)
    ready: Counter[int] = field(default_factory=Counter)
    unlike: list[Answer] = field(default_factory=list)

    def send(self) -> None:
        """Send one request after another. After a refusal, wait a moment and go on."""
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
        """Ask for health repeatedly."""
        while not self.ended.is_set():
            with suppress(OSError, HTTPException):
                self.ready[self.sidecar.admin("/readyz").status] += 1
            self.ended.wait(_LOOK_SECONDS)


@contextmanager
def sending(sidecar: Sidecar, account: Account, random: Random) -> Iterator[Sending]:
    """Send for the length of the block. At its end, no request is under way."""
    load = Sending(sidecar, account, random)
    with threads(*[load.send] * _SENDERS, load.look):
        try:
            yield load
        finally:
            load.ended.set()
    assert load.unlike == []


class Clock:
    """The clock of a process that runs under ``environ``: real time, shifted by ``move``. The
    process is not sandboxed, because it reads the shift from a file whenever it reads the clock."""

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
        """Move the clock ahead by these seconds."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._offset)


def clock(directory: Path) -> Clock:
    """A clock whose shift is in a file of a directory."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    named = os.environ.get("COLLECTOR_FAKETIME")
    if named:
        found = [Path(named)]
    if not found:
        required("libfaketime")
    return Clock(found[0], directory / "offset")


def failures(sidecar: Sidecar, sink: str) -> float:
    """How often a sink has failed, whatever the cause."""
    name = "collector_sink_failures_total"
    return sum(metric(sidecar, f'{name}{{cause="{cause}",sink="{sink}"}}') for cause in CAUSES)


def metric(sidecar: Sidecar, start: str) -> float:
    """The sum of the metrics whose lines begin with ``start``."""
    lines = sidecar.admin("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))
