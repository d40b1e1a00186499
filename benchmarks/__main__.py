"""``python -m benchmarks [COMMAND]``: measure, show, and with ``--check`` compare with the limits.

``--docs`` measures everything that docs/ shows, and writes the tables and charts there anew; it
takes hours. Exit codes: 0 fine, 1 a limit does not hold or a contender failed, 2 usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import conditions, filters, recording, scale, sdk, spark, variants
from benchmarks.figures import Measure, Options, run
from benchmarks.leaks import command as leaks
from benchmarks.sidecar import command as sidecar
from benchmarks.sinks import command as sinks

_FILTER = "benchmarks"
COMMANDS: dict[str, tuple[str, Measure, Options]] = {
    _FILTER: ("Measure the filter.", filters.measure, filters.OPTIONS),
    "sidecar": ("Measure the sidecar as a whole.", sidecar.sidecar, sidecar.OPTIONS),
    "soak": (
        "Load the sidecar, and look whether its memory grows.",
        sidecar.soak,
        sidecar.SOAK_OPTIONS,
    ),
    "sdk": ("Measure the SDK.", sdk.sdk, sdk.OPTIONS),
    "consent": ("Measure what a person's choices cost.", variants.consent, {}),
    "when": ("Measure what a condition costs.", variants.when, {}),
    "recording": ("Measure the vault.", recording.recording, {}),
    "sinks": ("Measure delivery beside a bare writer.", sinks.sinks, {}),
    "leaks": ("Measure what gets through.", leaks.leaks, leaks.OPTIONS),
    "spark": ("Measure archives on Spark.", spark.spark, {}),
    "scale": ("Size many machines.", scale.scale, {}),
}
"""What is measured: the filter, or what the first word names."""
_PAGE = "docs/benchmarks.md"
DOCS: tuple[tuple[str, ...], ...] = (
    (_FILTER, "--growth", "--charts", "docs/benchmarks"),
    ("sidecar",),
    ("sdk", "--install"),
    ("recording",),
    ("sinks",),
    ("leaks", "--build", "--markdown", "docs/leaks.md", "--chart", "docs/benchmarks/leaks.svg"),
)
"""What writes the figures of docs/; without a page of its own, into docs/benchmarks.md."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--docs"]:
        return max(main([*_with_page(words), "--check", *given[1:]]) for words in DOCS)
    name = given.pop(0) if given and given[0] in COMMANDS else _FILTER
    about, measure, options = COMMANDS[name]
    others = f" Others: {', '.join(COMMANDS)}." if name == _FILTER else ""
    conditions.compiled()
    return run(given, name, about + others, measure, options)


def _with_page(words: Sequence[str]) -> list[str]:
    page = [] if "--markdown" in words else ["--markdown", _PAGE]
    return [*words, *page]


if __name__ == "__main__":
    sys.exit(main())
