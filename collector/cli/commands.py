"""The form of all commands: how typer builds them, and how each names its configuration."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

_UsageError: type[Any] = typer.BadParameter.__bases__[0]
"""What typer raises for words that a command does not take."""


class _Command(TyperCommand):
    """A command that explains `--config` if it gets a word too many, which may be a
    configuration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        try:
            return super().parse_args(ctx, args)
        except _UsageError as error:
            takes_file = any("--config" in parameter.opts for parameter in self.params)
            if takes_file and "extra argument" in error.message:
                error.message += "; name a configuration with `--config FILE`"
            raise


class Commands(typer.Typer):
    """Several commands; all of them name a configuration in the same way."""

    def command(self, *args: Any, **options: Any) -> Any:
        """Add a command."""
        return super().command(*args, **{"cls": _Command} | options)
