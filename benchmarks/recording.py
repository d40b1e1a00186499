"""``python -m benchmarks recording``: content into the vault and out of it, beside bare age.

A process of its own puts 1 MiB chunks of several recordings into a vault, sealed, synced and stated
in the manifest, and reads them back, verified. In turns with it, the same chunks are encrypted and
decrypted by pyrage alone, by one thread: in memory, with which the vault is compared, and with
files, each synced with its directory, as any program must that keeps them. Another recording is
written and read by one thread alone, which waits for each chunk. The garbage collector is off.

Rates are of whole rounds on the wall, and of CPU time; that of the vault includes the kernel's for
writing and syncing.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks import conditions, gate, output
from benchmarks.data import SEED
from benchmarks.gate import Verdict
from benchmarks.report import Table
from benchmarks.results import BenchmarkError, Interval, RunFigures, interval, paired
from collector.files import sync

_SECTION = "recording"
_CHUNK = 1 << 20
_SENDERS = 4
"""Recordings that are written, or read, at once: while one waits for the disk, others go on."""
_CHUNKS, _ROUNDS = 64, 32
"""64 MiB a round: 2 GiB in and out."""
_SHARE = _CHUNKS // _SENDERS
"""Chunks of a sender in a round."""
_QUICK_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Rates:
    """MiB per second of one direction, round by round: on the wall, and of CPU time. ``files`` is
    bare age with synced files, ``alone`` the vault with one sender."""

    bare: list[float]
    files: list[float]
    vault: list[float]
    alone: list[float]
    bare_cpu: list[float]
    files_cpu: list[float]
    vault_cpu: list[float]
    alone_cpu: list[float]

    @property
    def ratio(self) -> Interval:
        """The vault's rate on the wall over that of bare age, of the same round."""
        return paired(self.vault, self.bare)


@dataclass(slots=True)
class Figures(RunFigures):
    """What was measured: rates by direction, and the process's peak of resident memory, in MB."""

    rates: dict[str, Rates] = field(default_factory=dict)
    peak_mb: float = 0.0


def recording(arguments: Sequence[str]) -> int:
    """Measure it; returns the exit code."""
    return output.run(
        arguments, _SECTION, "Measure the vault.", measure=_measure, table=_table, judge=_judge
    )


def _measure(options: Namespace) -> Figures:
    """Measure in a process of its own, whose memory counts."""
    rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    output.say(f"recording: {rounds * _CHUNKS} MiB in and out")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.recording", str(rounds)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError("the process that was to be measured failed")
    found = json.loads(done.stdout)
    rates = {way: Rates(**each) for way, each in found["rates"].items()}
    environment = conditions.environment()
    return Figures(environment, quick=options.quick, rates=rates, peak_mb=found["peak_mb"])


def main(rounds: str) -> None:
    """Measure, and print the figures as JSON."""
    rates = {way: Rates(*([] for _ in range(8))) for way in ("in", "out")}
    with TemporaryDirectory() as name, ThreadPoolExecutor(_SENDERS) as pool:
        chunks = [Random(SEED + number).randbytes(_CHUNK) for number in range(8)]
        bare, contents = _BareAge(Path(name), chunks), _Contents(Path(name), chunks)
        gc.collect()
        gc.disable()
        for round_ in range(int(rounds)):
            for way, in_memory, with_files, work in (
                ("in", bare.encrypt, bare.write, contents.add),
                ("out", bare.decrypt, bare.read, contents.read),
            ):
                of, senders = rates[way], partial(work, round_)
                _time(of.bare, of.bare_cpu, _CHUNKS, partial(_each, _CHUNKS, in_memory))
                _time(of.files, of.files_cpu, _SHARE, partial(_each, _SHARE, with_files))
                _time(of.vault, of.vault_cpu, _CHUNKS, partial(_at_once, pool, senders))
                _time(of.alone, of.alone_cpu, _SHARE, partial(senders, _SENDERS))
        contents.vault.close()
        contents.vault.store.close()
    # The peak of resource.getrusage begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    print(json.dumps({"rates": {way: _fields(of) for way, of in rates.items()}, "peak_mb": peak}))


class _BareAge:
    """Pyrage alone, by one thread."""

    def __init__(self, directory: Path, chunks: Sequence[bytes]) -> None:
        from pyrage.x25519 import Identity  # noqa: PLC0415 - the extra

        self._chunks, self._directory = chunks, directory / "bare"
        self._directory.mkdir()
        self._identity = Identity.generate()
        self._recipient = self._identity.to_public()
        self._sealed = [self.encrypt(number) for number in range(len(chunks))]
        self._files = 0

    def encrypt(self, number: int) -> bytes:
        """Encrypt a chunk in memory."""
        import pyrage  # noqa: PLC0415 - the extra

        data = self._chunks[number % len(self._chunks)]
        return bytes(pyrage.encrypt(data, [self._recipient]))

    def decrypt(self, number: int) -> bytes:
        """Decrypt a chunk in memory."""
        return self._open(self._sealed[number % len(self._sealed)])

    def write(self, number: int) -> None:
        """Encrypt a chunk into a new file, which is on disk on return, and not in memory."""
        sealed, self._files = self.encrypt(number), self._files + 1
        with (self._directory / f"{self._files}.age").open("xb", buffering=0) as file:
            file.write(sealed)
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        sync(self._directory)

    def read(self, number: int) -> None:
        """Decrypt it from there: the last of the files that were written but for a number."""
        self._open((self._directory / f"{self._files - number}.age").read_bytes())

    def _open(self, sealed: bytes) -> bytes:
        import pyrage  # noqa: PLC0415 - the extra

        return bytes(pyrage.decrypt(sealed, [self._identity]))


class _Contents:
    """A vault with a recording for each sender, and what goes in and out in a round."""

    def __init__(self, directory: Path, chunks: Sequence[bytes]) -> None:
        from collector.recording.store import Store  # noqa: PLC0415 - the extra
        from collector.recording.vault import Vault, load_signer  # noqa: PLC0415

        self._chunks, store = chunks, Store(directory / "recorder")
        signer = load_signer(store.directory)
        self.vault = Vault(store.directory / "vault", store, signer=signer)
        for recording in (f"{sender:032x}" for sender in range(_SENDERS + 1)):
            self.vault.prepare(recording, None)
            begin = partial(self.vault.begin, terms_line={}, storage="cloud", recipient=None)
            store.commit(lambda db, begin=begin, name=recording: begin(db, name))  # type: ignore[misc]

    def add(self, round_: int, sender: int) -> None:
        """Put a sender's share of a round into the vault."""
        for number in range(round_ * _SHARE, (round_ + 1) * _SHARE):
            data = self._chunks[number % len(self._chunks)]
            place = (f"{sender:032x}", "track", number)
            self.vault.add(*place, data, owner_mark="owner", kind="video")

    def read(self, round_: int, sender: int) -> None:
        """Read it back."""
        size = _SHARE * _CHUNK
        parts = self.vault.read(f"{sender:032x}", "track", round_ * size, (round_ + 1) * size)
        if sum(map(len, parts)) != size:
            raise BenchmarkError("the vault lost something")


def _at_once(pool: Executor, work: Callable[[int], None]) -> None:
    """Do the work of all senders, each in a thread."""
    list(pool.map(work, range(_SENDERS)))


def _each(chunks: int, work: Callable[[int], object]) -> None:
    for number in range(chunks):
        work(number)


def _time(wall: list[float], cpu: list[float], chunks: int, work: Callable[[], object]) -> None:
    """Add the rates of a round in MiB per second."""
    began, cpu_began = perf_counter(), process_time()
    work()
    wall.append(chunks / (perf_counter() - began))
    cpu.append(chunks / (process_time() - cpu_began))


def _fields(of: Rates) -> dict[str, list[float]]:
    return {name: getattr(of, name) for name in Rates.__slots__}


def _table(figures: Figures) -> Table:
    rows = tuple(
        (
            way,
            *(f"{interval(each).median:,.0f}" for each in (of.bare, of.files, of.vault)),
            f"{of.ratio.median:.2f} ({of.ratio.low:.2f}–{of.ratio.high:.2f})",
            *(f"{interval(each).median:,.0f}" for each in (of.alone, of.bare_cpu, of.vault_cpu)),
        )
        for way, of in figures.rates.items()
    )
    title = (
        f"MiB/s of bare age, by one thread, and of the vault, 1 MiB chunks of {_SENDERS} recordings"
        f" at once; medians (95 % bootstrap); peak of resident memory {figures.peak_mb:.0f} MB"
    )
    head = ("way", "bare", "bare, synced files", "vault", "vault / bare", "vault, one sender")
    return Table(title, (*head, "bare, of CPU time", "vault, of CPU time"), rows)


def _judge(figures: Figures, limits: gate.Limits) -> Iterator[Verdict]:
    if limits.recording is None:
        yield Verdict(None, "recording: no limits")
        return
    least = limits.recording.of_bare_at_least
    least /= limits.quick.tolerance if figures.quick else 1
    for way, rates in figures.rates.items():
        found = rates.ratio.median
        text = f"recording, {way}: {found:.2f} of bare age's rate, at least {least:.2f}"
        yield Verdict(found >= least, text)
    most = limits.recording.peak_mb_below
    text = f"recording: peak of memory {figures.peak_mb:.0f} MB, below {most:g}"
    yield Verdict(figures.peak_mb < most, text)


if __name__ == "__main__":
    main(*sys.argv[1:])
