"""Where the figures of a command go: the terminal, JSON, and the tables of a Markdown file."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from benchmarks import gate, markdown
from benchmarks.report import Table, aligned
from benchmarks.results import BenchmarkError, RunFigures

_F = TypeVar("_F", bound=RunFigures)


def say(text: str) -> None:
    """Print what is measured now to stderr, for people who wait."""
    print(text, file=sys.stderr, flush=True)


def add_options(parser: ArgumentParser) -> None:
    """The options of a command that has limits and tables of its own."""
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer and shorter rounds")
    add("--markdown", type=Path, metavar="PATH", action="append", default=[], help="rewrite tables")
    add("--limits", type=Path, metavar="PATH", default=gate.LIMITS, help="other limits")


def limits(options: Namespace, section: str) -> gate.Limits | None:
    """The limits, if there is nothing wrong with them and with the files for tables; says what
    is."""
    try:
        for target in options.markdown:
            markdown.check(target, section)
        return gate.read(options.limits)
    except (gate.LimitsError, markdown.MarkersError, OSError) as error:
        say(f"benchmarks: {error}")
        return None


def run(
    arguments: Sequence[str],
    section: str,
    description: str,
    *,
    measure: Callable[[Namespace], _F],
    table: Callable[[_F], Table | list[Table]],
    judge: Callable[[_F, gate.Limits], Iterable[gate.Verdict]],
) -> int:
    """Run a command that is named as its section; returns the exit code."""
    parser = ArgumentParser(f"python -m benchmarks {section}", description=description)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything as JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit does not hold")
    add_options(parser)
    options = parser.parse_args(arguments)
    found = limits(options, section)
    if found is None:
        return 2

    def tables(figures: _F) -> list[Table]:
        made = table(figures)
        return made if isinstance(made, list) else [made]

    return conclude(options, section, measure, tables, lambda f: judge(f, found))


def conclude(
    options: Namespace,
    section: str,
    measure: Callable[[Namespace], _F],
    tables: Callable[[_F], Iterable[Table]],
    verdicts: Callable[[_F], Iterable[gate.Verdict]],
) -> int:
    """Measure, show the figures, and judge them if that is asked for; returns the exit code."""
    try:
        figures = measure(options)
    except BenchmarkError as error:
        say(f"benchmarks: {error}")
        return 1
    show(figures, tables(figures), options, section)
    return gate.announce(verdicts(figures) if options.check else ())


def show(figures: RunFigures, tables: Iterable[Table], options: Namespace, section: str) -> None:
    """Print figures, and write them where the options say."""
    shown = list(tables)
    parts = ["\n".join(aligned(table)) for table in shown]
    parts += [f"skipped: {name}: {why}" for name, why in figures.skipped.items()]
    parts.append("\n".join(f"{name}  {value}" for name, value in figures.environment.items()))
    print("\n\n".join(parts))
    if options.json:
        options.json.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")
    command = f"python -m benchmarks {section}"
    for target in options.markdown:
        text = markdown.written(shown, figures.skipped, figures.environment, command)
        markdown.put(target, text, section)
