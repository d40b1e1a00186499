"""``python -m benchmarks [COMMAND]``: measure and show; with ``--check``, compare with the limits.

``--docs`` measures every figure in README.md and docs/, and writes it between its markers there and
into docs/leaks.svg; nothing else is changed. It takes less than ten minutes on an idle machine.
Exit codes: 0 fine, 1 a limit does not hold or a contender failed, 2 usage.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from benchmarks import conditions, filters, recording, sdk, sinks, spark, variants
from benchmarks.figures import Figures, Measure, Options, put, run, say
from benchmarks.leaks import measure as leaks
from benchmarks.sidecar import command as sidecar

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
}
"""What each command measures; without a command, the filter."""
_ROOT = Path(__file__).resolve().parent.parent
README, SPEED, LEAKS = _ROOT / "README.md", _ROOT / "docs/benchmarks.md", _ROOT / "docs/leaks.md"
DOCS: tuple[tuple[Path, tuple[str, ...]], ...] = (
    (SPEED, (_FILTER, "--growth")),
    (SPEED, ("sidecar", "--quick")),
    (SPEED, ("sdk", "--install")),
    (SPEED, ("recording",)),
    (SPEED, ("sinks",)),
    (SPEED, ("consent",)),
    (SPEED, ("when",)),
    (LEAKS, ("leaks", "--build", "--chart", str(LEAKS.with_suffix(".svg")))),
)
"""The pages, and the commands that write figures into each."""
_FIRST_PAGE = {
    "Collector": ("collector", "Collector, documented"),
    "bare msgspec, no check of anything": ("bare msgspec (floor)", ""),
    "pysimdjson, projection by hand": ("pysimdjson + projection by hand", ""),
    "DuckDB, `COPY`": ("DuckDB, COPY of read_ndjson", ""),
    "PyArrow, `read_json`": ("PyArrow, read_json + msgspec", ""),
    "Polars, `scan_ndjson`": ("Polars, scan_ndjson → sink_ndjson", ""),
    "orjson, projection by hand": (
        "orjson + projection by hand",
        "orjson, projection by hand, documented",
    ),
    "pydantic models": ("pydantic models", "pydantic models, documented"),
    "jq": ("", "jq, documented"),
    "Vector's VRL": ("Vector's VRL, in process", "Vector's VRL, allowlist, documented"),
    "Fluent Bit": ("", "Fluent Bit, allowlist, documented"),
    "Presidio, patterns": ("", "Presidio, patterns, documented"),
}
"""The rows of the README's table, by their names in docs/benchmarks.md and docs/leaks.md; a row
that is in neither is left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--docs"]:
        return docs(given[1:])
    name = given.pop(0) if given and given[0] in COMMANDS else _FILTER
    about, measure, options = COMMANDS[name]
    others = f" Others: {', '.join(COMMANDS)}." if name == _FILTER else ""
    conditions.compiled()
    return run(given, name, about + others, measure, options)


def docs(more: Sequence[str]) -> int:
    """Write every figure of README.md and docs/; returns the worst exit code."""
    codes, began = [], monotonic()
    for page, words in DOCS:
        codes.append(main([*words, "--check", "--markdown", str(page), *more]))
        say(f"{words[0]}: exit code {codes[-1]}, after {monotonic() - began:.0f} s")
    first_page()
    return max(codes)


def first_page() -> None:
    """Write the README's table from the tables of the pages."""
    figures = Figures()
    speed, leaks_ = _rows(SPEED, _FILTER), _rows(LEAKS, "leaks")
    none = ("–",) * 5
    figures.table(
        "CPU time of one core for an event, and attacks that get through",
        ("", "µs, 2 KB", "µs, 51 KB", "attacks that get through"),
        (
            (name, *speed.get(timed, none)[2:4], f"{leaks_[of][0]} %" if of in leaks_ else "–")
            for name, (timed, of) in _FIRST_PAGE.items()
            if timed in speed or of in leaks_
        ),
    )
    put(README, "measured", figures, "Written by `make figures`; – is not measured.")


def _rows(page: Path, section: str) -> dict[str, tuple[str, ...]]:
    """Return the cells of each row of a section's tables by the first cell. Of rows with the same
    first cell, the first one is returned."""
    text = page.read_text("utf-8").partition(f"<!-- {section}:begin -->")[2]
    found: dict[str, tuple[str, ...]] = {}
    for row in re.findall(r"^\| (.+) \|$", text.partition(":end -->")[0], re.MULTILINE):
        first, *cells = row.split(" | ")
        found.setdefault(first, tuple(cells))
    return found


if __name__ == "__main__":
    sys.exit(main())
