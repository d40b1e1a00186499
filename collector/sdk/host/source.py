"""Where the facts about a machine come from: something that is asked by name and answers in text.

The describing half of each system takes such a source, so that it can be given a recording.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["MAX_BYTES", "Source", "text_of"]

MAX_BYTES = 4096
"""More of a file is not read; all of ours are shorter."""

Source = Callable[[str], str]
"""What stands under a name, without blanks around it; empty if there is nothing."""


def text_of(path: str) -> str:
    """The beginning of a file of the system, as a ``Source`` gives it."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - without Path's import
            return file.read(MAX_BYTES).decode("utf-8", "replace").strip(" \t\r\n\0")
    except OSError:
        return ""
