"""Bad inputs and configurations, each with its exit code and its message.

``bad_inputs.json`` is the table; ``python -m tests.cli.bad_inputs`` writes the messages anew, to be
read by someone who did not write them. ``bad.*`` in a command is a file of the entry; ``data`` is
the data directory of a demo.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.support.command import run

TABLE = Path(__file__).with_name("bad_inputs.json")
CANARY = "hunter2secret"
_BOUND = re.compile(
    r"[^\s:]+:[0-9]+:[0-9]+|\bE[0-9]{3}\b|\"[a-z_]+\":[0-9]+"
    r"|[Dd]id you mean [^?]+|--(?:input|from|schema) [a-z.]+"
)
_BOX = re.compile(r"[╭╮╰╯│─]+|Error(?= *─)")


class BadInput(NamedTuple):
    """A command, its file (in Latin-1, so many times over), and what comes of it."""

    what: str
    command: str
    file: str = ""
    times: int = 1
    exit: int = 0
    says: str = ""

    def tried(self, folder: Path, data: Path) -> tuple[int, str, bytes]:
        """Run it in a folder; return its exit code, its message without frames, and its output."""
        for name in set(re.findall(r"bad\.[a-z.]+", self.command)):
            (folder / name).write_bytes(self.file.encode("latin-1") * self.times)
        words = [word.replace("~", " ") for word in self.command.split()]
        done = run(*(data if word == "data" else word for word in words), directory=folder)
        return done.code, plain(done.err.decode(), data), done.out


def plain(said: str, data: Path) -> str:
    """A message without the frame and the hints of usage, and without the name of a directory."""
    lines = (_BOX.sub(" ", line).strip() for line in said.replace(str(data), "DATA").splitlines())
    kept = (" ".join(line.split()) for line in lines if not line.startswith(("Usage:", "Try 'col")))
    return "\n".join(line for line in kept if line and line != "Error")


def bound(said: str) -> list[str]:
    """Places, codes, counts and suggestions in a message; its words may change."""
    return _BOUND.findall(" ".join(said.split()))


def table() -> list[BadInput]:
    """Every entry."""
    return [BadInput(**each) for each in json.loads(TABLE.read_bytes())]


def written(entries: list[BadInput]) -> str:
    """The table, in which ``says`` is what a user reads."""
    usual = {"file": "", "times": 1}
    told = [
        {name: value for name, value in entry._asdict().items() if value != usual.get(name)}
        for entry in entries
    ]
    return json.dumps(told, indent=1) + "\n"


def outcome(entry: BadInput, folder: Path, data: Path) -> BadInput:
    """The entry with what comes of it now."""
    code, said, _ = entry.tried(folder, data)
    return entry._replace(exit=code, says=said)


def main() -> None:
    """Write the table with the messages of now."""
    with TemporaryDirectory() as name:
        data, entries = Path(name, "demo"), []
        assert run("demo", "--data", data, "--events", 20).code == 0
        for number, entry in enumerate(table()):
            folder = Path(name, str(number))
            folder.mkdir()
            entries.append(outcome(entry, folder, data))
    TABLE.write_text(written(entries), "utf-8")


if __name__ == "__main__":
    main()
