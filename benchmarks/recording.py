"""``python -m benchmarks recording``: content into the vault and out of it, beside bare age.

A process of its own puts 1 MiB chunks of several recordings into a vault, sealed, synced and stated
in the manifest, and reads them back, verified. In turns with it, the same chunks are encrypted and
decrypted in memory by pyrage alone, by one thread. Rates are of whole rounds on the wall, and of
CPU time; the vault's CPU time includes the kernel's for writing and syncing.
"""

from __future__ import annotations

import json
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
from benchmarks.results import BenchmarkError, Interval, interval, paired

__all__ = ["Figures", "Rates", "main", "recording"]

_SECTION = "recording"
_CHUNK = 1 << 20
_SENDERS = 4
"""Recordings that are written, or read, at once: while one waits for the disk, others go on."""
_CHUNKS, _ROUNDS = 64, 32
"""64 MiB a round: 2 GiB in and out."""
_QUICK_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Rates:
    """MiB per second of one direction, round by round: on the wall, and of CPU time."""

    bare: list[float]
    vault: list[float]
    bare_cpu: list[float]
    vault_cpu: list[float]

    @property
    def ratio(self) -> Interval:
        """The vault's rate on the wall over that of bare age, of the same round."""
        return paired(self.vault, self.bare)


@dataclass(slots=True)
class Figures:
    """What was measured: rates by direction, and the process's peak of resident memory, in MB."""

    environment: dict[str, str]
    quick: bool
    rates: dict[str, Rates] = field(default_factory=dict)
    peak_mb: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)


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
    import pyrage  # noqa: PLC0415 - the extra

    chunks = [Random(SEED + number).randbytes(_CHUNK) for number in range(8)]
    identity = pyrage.x25519.Identity.generate()
    sealed = [pyrage.encrypt(chunk, [identity.to_public()]) for chunk in chunks]
    rates = {way: Rates([], [], [], []) for way in ("in", "out")}
    with TemporaryDirectory() as name, ThreadPoolExecutor(_SENDERS) as pool:
        contents = _Contents(Path(name), chunks)

        def encrypt(number: int) -> None:
            pyrage.encrypt(chunks[number % len(chunks)], [identity.to_public()])

        def decrypt(number: int) -> None:
            pyrage.decrypt(sealed[number % len(chunks)], [identity])

        for round_ in range(int(rounds)):
            for way, bare, work in (
                ("in", encrypt, contents.add),
                ("out", decrypt, contents.read),
            ):
                _time(rates[way].bare, rates[way].bare_cpu, partial(_each, bare))
                both = partial(_at_once, pool, partial(work, round_))
                _time(rates[way].vault, rates[way].vault_cpu, both)
        contents.vault.close()
    # The peak of resource.getrusage begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    print(json.dumps({"rates": {way: _fields(of) for way, of in rates.items()}, "peak_mb": peak}))


class _Contents:
    """A vault with a recording for each sender, and what goes in and out in a round."""

    def __init__(self, directory: Path, chunks: Sequence[bytes]) -> None:
        from collector.ledger.signing import load_key  # noqa: PLC0415 - the extra
        from collector.recording.vault import Vault  # noqa: PLC0415

        key = load_key(directory, None)
        if key is None:
            raise BenchmarkError("the extra for signing is not installed")
        self._chunks, self.vault = chunks, Vault(directory, signer=key)
        for sender in range(_SENDERS):
            self.vault.create(f"{sender:032x}", {}, storage="cloud", recipient=None)

    def add(self, round_: int, sender: int) -> None:
        """Put a sender's share of a round into the vault."""
        first = round_ * (_CHUNKS // _SENDERS)
        for number in range(first, first + _CHUNKS // _SENDERS):
            data = self._chunks[number % len(self._chunks)]
            place = (f"{sender:032x}", "track", number)
            self.vault.add(*place, data, owner_mark="owner", kind="video")

    def read(self, round_: int, sender: int) -> None:
        """Read it back."""
        size = _CHUNKS // _SENDERS * _CHUNK
        parts = self.vault.read(f"{sender:032x}", "track", round_ * size, (round_ + 1) * size)
        if sum(map(len, parts)) != size:
            raise BenchmarkError("the vault lost something")


def _at_once(pool: Executor, work: Callable[[int], None]) -> None:
    """Do the work of all senders, each in a thread."""
    list(pool.map(work, range(_SENDERS)))


def _each(work: Callable[[int], None]) -> None:
    for number in range(_CHUNKS):
        work(number)


def _time(wall: list[float], cpu: list[float], work: Callable[[], object]) -> None:
    """Add the rates of a round in MiB per second."""
    began, cpu_began = perf_counter(), process_time()
    work()
    wall.append(_CHUNKS / (perf_counter() - began))
    cpu.append(_CHUNKS / (process_time() - cpu_began))


def _fields(of: Rates) -> dict[str, list[float]]:
    return {name: getattr(of, name) for name in Rates.__slots__}


def _table(figures: Figures) -> Table:
    rows = tuple(
        (
            way,
            *(f"{interval(each).median:,.0f}" for each in (of.bare, of.vault)),
            f"{of.ratio.median:.2f} ({of.ratio.low:.2f}–{of.ratio.high:.2f})",
            *(f"{interval(each).median:,.0f}" for each in (of.bare_cpu, of.vault_cpu)),
        )
        for way, of in figures.rates.items()
    )
    title = (
        f"MiB/s of the vault and of bare age, 1 MiB chunks of {_SENDERS} recordings; medians (95 %"
        f" bootstrap); peak of resident memory {figures.peak_mb:.0f} MB"
    )
    head = ("way", "bare", "vault", "vault / bare", "bare, of CPU time", "vault, of CPU time")
    return Table(title, head, rows)


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
