"""Packages that offer types of sinks, installed in a test's folder as in an environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "jsonl-sink" / "collector_jsonl.py"

MOODY = '''
"""A sink that refuses batches while a file says so."""

from collector.sinks import Unacceptable
from collector_jsonl import Jsonl


class Moody(Jsonl):
    def deliver(self, *batches):
        if (self.opening.directory / "refuse").exists():
            raise Unacceptable(batches[0].id)
        super().deliver(*batches)
'''

FLAKY = '''
"""A sink that fails: until a file says go, and then once for each of its first ten batches."""

from collector_jsonl import Jsonl


class Flaky(Jsonl):
    def __init__(self, settings, opening):
        super().__init__(settings, opening)
        self.failed = set()

    def deliver(self, *batches):
        if not (self.opening.directory / "go").exists():
            raise RuntimeError
        for batch in batches:
            if batch.id not in self.failed and len(self.failed) < 10:
                self.failed.add(batch.id)
                raise RuntimeError
        super().deliver(*batches)
'''

FAR = """
from datetime import timedelta
from pathlib import Path
from collector.sinks import Sink, SinkSettings

class Far(Sink):
    Settings = SinkSettings

    def __init__(self, settings, opening):
        Path("called").touch()

    def deliver(self, *batches):
        raise RuntimeError

class Slow(Far):
    expires = timedelta(days=1000)

class Quick(Far):
    expires = timedelta(days=1)
"""


def offered(folder: Path, modules: Mapping[str, str], entries: Mapping[str, str]) -> Path:
    """Return a folder for ``PYTHONPATH`` with modules, and with a package for each entry point (its
    name and value)."""
    folder.mkdir(exist_ok=True)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    for number, (name, value) in enumerate(entries.items()):
        about = folder / f"offered_{number}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: offered-{number}\nVersion: 1\n"
        )
        (about / "entry_points.txt").write_text(f"[collector.sinks]\n{name.strip()} = {value}\n")
    return folder
