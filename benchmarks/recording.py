"""``python -m benchmarks recording``: content into the vault and out of it, compared with bare age.

A separate process puts 1 MiB chunks of several recordings into a vault, sealed, synced and noted in
the manifest, and reads them back, verified. In turns, one thread encrypts and decrypts the same
chunks with pyrage alone: in memory, which is the vault's reference, and with files, each synced
with its directory, as any program must that keeps them. One thread alone writes and reads another
recording, and waits for each chunk. The garbage collector is off.

Rates are for whole rounds, by wall time and by CPU time. The vault's CPU time includes the kernel's
for writing and syncing.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks import conditions
from benchmarks.data import SEED
from benchmarks.figures import BenchmarkError, Figures, interval, paired, peak_mb, say
from collector.files import sync

_CHUNK = 1 << 20
_SENDERS = 4
"""Recordings that are written or read in parallel: while one waits for the disk, others go on."""
_CHUNKS, _ROUNDS = 64, 12
"""64 MiB a round, so 768 MiB in and out."""
_SHARE = _CHUNKS // _SENDERS
"""The chunks of one sender in a round."""
_QUICK_ROUNDS = 2


_RATES = ("bare", "files", "vault", "alone")
"""The rates, in MiB per second and round: bare age in memory, and with synced files; the vault, and
the vault with one sender."""


def recording(options: Namespace, figures: Figures) -> None:
    """Measure in a separate process, because its memory counts."""
    rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    say(f"recording: {rounds * _CHUNKS} MiB in and out")
    command = [sys.executable, "-m", "benchmarks.recording", str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchmarkError("the process that was to be measured failed")
    figures.environment = conditions.environment()
    found = figures.values = json.loads(done.stdout)
    ratios = {way: paired(of["vault"], of["bare"]) for way, of in found["rates"].items()}
    peak = found["peak_mb"]
    columns = ("bare", "files", "vault"), ("alone", "bare CPU", "vault CPU")
    shown = [
        (
            way,
            *(f"{interval(of[name]).median:,.0f}" for name in columns[0]),
            str(ratios[way]),
            *(f"{interval(of[name]).median:,.0f}" for name in columns[1]),
        )
        for way, of in found["rates"].items()
    ]
    head = ("way", "bare", "bare, synced files", "vault", "vault / bare", "vault, one sender")
    figures.table(
        f"MiB/s of bare age, by one thread, and of the vault, 1 MiB chunks of {_SENDERS} recordings"
        f" at once; medians (95 % bootstrap); peak of resident memory {peak:.0f} MB",
        (*head, "bare, of CPU time", "vault, of CPU time"),
        shown,
    )
    for way, ratio in ratios.items():
        what, least = f"recording, {way}: of bare age's rate", "of_bare_at_least"
        figures.at_least(what, figures.limit("recording", least), ratio.median)
    most = figures.limit("recording", "peak_mb_below")
    figures.check(peak < most, f"recording: peak of memory {peak:.0f} MB, below {most:g}")


def main(rounds: str) -> None:
    """Measure, and print the figures as JSON."""
    names = [*_RATES, *(f"{name} CPU" for name in _RATES)]
    rates: dict[str, dict[str, list[float]]]
    rates = {way: {name: [] for name in names} for way in ("in", "out")}
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
                senders = partial(work, round_)
                for each, number, job in (
                    ("bare", _CHUNKS, partial(_each, _CHUNKS, in_memory)),
                    ("files", _SHARE, partial(_each, _SHARE, with_files)),
                    ("vault", _CHUNKS, lambda job=senders: [*pool.map(job, range(_SENDERS))]),
                    ("alone", _SHARE, partial(senders, _SENDERS)),
                ):
                    began, cpu_began = perf_counter(), process_time()
                    job()
                    rates[way][each].append(number / (perf_counter() - began))
                    rates[way][f"{each} CPU"].append(number / (process_time() - cpu_began))
        contents.vault.close()
        contents.vault.store.close()
    print(json.dumps({"rates": rates, "peak_mb": peak_mb()}))


class _BareAge:
    """Pyrage alone, on one thread."""

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
        """Encrypt a chunk into a new file. On return it is on disk and no longer in memory."""
        sealed, self._files = self.encrypt(number), self._files + 1
        with (self._directory / f"{self._files}.age").open("xb", buffering=0) as file:
            file.write(sealed)
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        sync(self._directory)

    def read(self, number: int) -> None:
        """Decrypt a chunk from its file; ``number`` counts back from the newest one."""
        self._open((self._directory / f"{self._files - number}.age").read_bytes())

    def _open(self, sealed: bytes) -> bytes:
        import pyrage  # noqa: PLC0415 - the extra

        return bytes(pyrage.decrypt(sealed, [self._identity]))


class _Contents:
    """A vault with a recording for each sender, and the content of a round."""

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
        """Read a sender's share of a round back."""
        size = _SHARE * _CHUNK
        parts = self.vault.read(f"{sender:032x}", "track", round_ * size, (round_ + 1) * size)
        if sum(map(len, parts)) != size:
            raise BenchmarkError("the vault lost something")


def _each(chunks: int, work: Callable[[int], object]) -> None:
    for number in range(chunks):
        work(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
