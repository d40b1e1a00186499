"""The form of all commands: how typer builds them, and how each names its configuration."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand


class _Command(TyperCommand):
    """A command that explains `--config` if it gets a word too many, which may be a
    configuration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        ctx.allow_extra_args = any("--config" in parameter.opts for parameter in self.params)
        extra = super().parse_args(ctx, args)
        if extra and ctx.allow_extra_args and not ctx.resilient_parsing:
            ctx.fail("Got unexpected extra arguments; name a configuration with `--config FILE`")
        return extra


class Commands(typer.Typer):
    """Several commands; all of them name a configuration in the same way."""

    def command(self, *args: Any, **options: Any) -> Any:
        """Add a command."""
        return super().command(*args, **{"cls": _Command} | options)
