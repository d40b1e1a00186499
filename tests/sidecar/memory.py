"""The memory of another process, read from outside, and a search for canaries in it."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Self

from tests.conftest import required_root

_PIECE = 1 << 24
_OVERLAP = 1 << 8


def memory(pid: int) -> Iterator[bytes]:
    """All memory that a process can write to, in overlapping pieces."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if "r" not in rights or "w" not in rights:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            for at in range(start, end, _PIECE):
                with suppress(OSError):  # it was freed meanwhile, or belongs to a device
                    yield os.pread(file.fileno(), min(_PIECE + _OVERLAP, end - at), at)


def needles(text: bytes) -> list[bytes]:
    """A text in the forms in which programs hold it: bytes, wide characters, hexadecimal and
    base64."""
    encoded = [base64.b64encode(bytes(shift) + text)[(0, 2, 3)[shift] : -4] for shift in range(3)]
    found = [text, text.hex().encode(), *encoded]
    if text.isascii():
        plain = text.decode()
        found += [plain.encode("utf-16-le"), plain.encode("utf-32-le")]
    return found


class Samples:
    """Searches the memory of processes while something else runs, and once more at the end.

    ``found`` counts the samples that had each text. ``taken`` counts all samples, ``seconds``
    apart. ``pids`` is called for each sample.
    """

    def __init__(
        self, pids: Callable[[], Sequence[int]], texts: Sequence[bytes], seconds: float = 0.25
    ) -> None:
        required_root()
        self.found: Counter[bytes] = Counter()
        self.taken = self.bytes = 0
        self._pids, self._seconds = pids, seconds
        self._texts = {text: needles(text) for text in texts}
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.take()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.take()

    def take(self) -> None:
        """Take a sample."""
        hits: set[bytes] = set()
        for pid in self._pids():
            with suppress(ProcessLookupError, FileNotFoundError):  # it has ended
                for piece in memory(pid):
                    self.bytes += len(piece)
                    hits |= {
                        text
                        for text, forms in self._texts.items()
                        if any(form in piece for form in forms)
                    }
        self.taken += 1
        self.found.update(hits)
