"""A sink for Collector: one file of JSON lines, which is rewritten to delete a person's records."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.sinks import Batch, LineSink, Opening, SinkSettings, lines


class JsonlSettings(SinkSettings):
    """The file; without one, it lies in the sink's own directory below the data directory."""

    path: Path | None = None

    @property
    def is_local(self) -> bool:
        return True


class Jsonl(LineSink):
    """Appends records, and syncs them before it returns. Processes have the file in turn."""

    Settings = JsonlSettings
    is_shared = True

    def __init__(self, settings: JsonlSettings, opening: Opening) -> None:
        super().__init__(settings, opening)
        self.path = settings.path or opening.directory / "records.jsonl"

    def deliver(self, *batches: Batch) -> None:
        with self._locked(), self.path.open("ab") as file:
            file.writelines(line for batch in batches for line in lines(batch))
            file.flush()
            os.fsync(file.fileno())

    def pieces(self) -> Iterator[bytes]:
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from file

    def revise(self, change: Callable[[bytes], tuple[bytes, int]]) -> int:
        if not self.path.exists():
            return 0
        with self._locked():
            left = [change(line) for line in self.pieces()]
            number = sum(lost for _, lost in left)
            if number:
                new = self.path.with_suffix(".new")
                new.write_bytes(b"".join(line for line, _ in left))
                new.replace(self.path)
        return number

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
