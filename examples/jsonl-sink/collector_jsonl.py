"""A sink for Collector: one file of JSON lines, which is rewritten to delete a person's records."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from collector.sinks import (
    Batch,
    ErasableSink,
    Opening,
    Record,
    Removal,
    Rule,
    SinkSettings,
    foreign_lines,
    lines,
    matching,
    redact,
)


class JsonlSettings(SinkSettings):
    """The file; without one, it lies in the sink's own directory below the data directory."""

    path: Path | None = None

    @property
    def is_local(self) -> bool:
        return True


class Jsonl(ErasableSink):
    """Appends records, and syncs them before it returns. Processes have the file in turn."""

    Settings = JsonlSettings
    is_shared = True

    def __init__(self, settings: JsonlSettings, opening: Opening) -> None:
        self.opening = opening
        self.path = settings.path or opening.directory / "records.jsonl"

    def deliver(self, *batches: Batch) -> None:
        with self._locked(), self.path.open("ab") as file:
            file.writelines(line for batch in batches for line in lines(batch))
            file.flush()
            os.fsync(file.fileno())

    def scan(self, rule: Rule) -> Iterator[tuple[str, Record]]:
        if self.path.exists():
            with self.path.open("rb") as file:
                for line in file:
                    for record in matching(line, rule):
                        yield self.opening.name, record

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        total, new = [Removal() for _ in rules], self.path.with_suffix(".new")
        if not self.path.exists():
            return total
        with self._locked(), self.path.open("rb") as file, new.open("wb") as rest:
            for line in file:
                left, removed = redact(line, rules)
                rest.write(left)
                total = [a + b for a, b in zip(total, removed, strict=True)]
            rest.flush()
            os.fsync(rest.fileno())
            new.replace(self.path)
        return total

    @property
    def others(self) -> int:
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            return sum(map(foreign_lines, file))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
