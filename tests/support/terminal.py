"""Commands on a terminal: what they show, and what a person types."""

from __future__ import annotations

import os
import re
import select
from pathlib import Path

from tests.support.deadline import WAIT_SECONDS
from tests.support.forkserver import begin


class Terminal:
    """A command in its own process, whose streams are all a terminal of 120 columns. With further
    variables it starts a new interpreter, without which it draws no bars and screens."""

    def __init__(self, *arguments: object, directory: Path | None = None, **environ: str) -> None:
        self._mine, theirs = os.openpty()
        words, streams = list(map(str, arguments)), (theirs, theirs, theirs)
        given = os.environ | {"COLUMNS": "120"} | environ
        self._process = begin("collector", words, streams, directory or Path.cwd(), given)
        os.close(theirs)
        self._data, self._seen = b"", 0
        self.shown: str = ""
        """All output so far, without colours."""

    def wait_for(self, text: str) -> str:
        """Read until a text appears. Return the output up to the text's end, from the end of the
        last one."""
        start = self._seen
        while text not in self.shown[start:]:
            if not self._more():
                raise AssertionError(f"{text!r} is not shown: {self.shown[start:]}")
        self._seen = self.shown.index(text, start) + len(text)
        return self.shown[start : self._seen]

    def _more(self) -> bool:
        ready, _, _ = select.select([self._mine], [], [], WAIT_SECONDS)
        try:
            data = os.read(self._mine, 1 << 16) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        self._data += data  # the data may end inside a character or a colour
        self.shown = re.sub(r"\x1b\[[0-9;]*m", "", self._data.decode(errors="replace"))
        return bool(data)

    def type(self, *lines: str) -> None:
        """Type lines."""
        for line in lines:
            os.write(self._mine, line.encode() + b"\n")

    def terminate(self) -> None:
        """Ask the command to end."""
        self._process.terminate()

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._more():
            pass
        os.close(self._mine)
        return self._process.wait(WAIT_SECONDS)
