"""``collector init``: a configuration to begin with, each setting with its default and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Annotated

import typer

from collector.cli.console import err
from collector.cli.options import unwritable
from collector.config import Config
from collector.config.model import Setting, settings
from collector.errors import ConfigError, file_name
from collector.files import write_private

_HEAD = """\
# The settings of `collector serve --config FILE`, each with its default: take the `#` before its
# name away, and change it. `collector config check FILE` says what is wrong.
"""
_WIDTH = 90


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = Path(
        "collector.yaml"
    ),
) -> None:
    """Write a configuration with every setting, its meaning and its default, all commented out.

    A file that is there is left as it is.
    """
    text = "".join(f"{line}\n" for line in _lines(Config()))
    try:
        write_private(file, [_HEAD.encode(), text.encode()])
    except FileExistsError:
        fault = ConfigError("E203", f"{file_name(file)} is there already; name another file")
    except OSError as error:
        fault = unwritable(file, error)
    else:
        err.print(f"collector serve --config {file_name(file)}", markup=False, soft_wrap=True)
        return
    raise fault


def _lines(defaults: Config) -> Iterator[str]:
    """Yield the settings, section by section."""
    sections: list[str] = []
    for setting in settings():
        *within, key = setting.loc
        yield ""
        if within != sections:
            for depth, name in enumerate(within):
                if within[: depth + 1] != sections[: depth + 1]:
                    yield f"{'  ' * depth}{name}:"
            sections = within
        indent = "  " * len(within)
        meaning = wrap(setting.info.description or "", _WIDTH, break_on_hyphens=False)
        yield from (f"{indent}# {line}" for line in meaning)
        yield f"{indent}#{key}: {_default(setting, defaults)}".rstrip()


def _default(setting: Setting, defaults: Config) -> str:
    """Return a default as YAML; nothing for none."""
    if setting.info.get_default(call_default_factory=True) in (None, ()):
        return ""
    value = setting.of(defaults)
    return str(value).lower() if isinstance(value, bool) else str(value)
