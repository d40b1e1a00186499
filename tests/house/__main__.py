"""``python -m tests.house``: print the figures, or write the walk into docs/architecture.md."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import markdown
from tests.house.figures import ROOT, House
from tests.house.report import figures, rooms, section, text
from tests.house.traced import walk

_PAGE = ROOT / "docs" / "architecture.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns 1 if a bound does not hold."""
    parser = ArgumentParser("python -m tests.house", description="Figures of the house.")
    parser.add_argument("--names", action="store_true", help="list what each figure counts")
    parser.add_argument("--walk", action="store_true", help="print rooms and walk as Markdown")
    parser.add_argument("--write", action="store_true", help=f"write them into {_PAGE.name}")
    options = parser.parse_args(arguments)
    house = House()
    with TemporaryDirectory() as folder:
        walked = walk(Path(folder))
    if options.walk or options.write:
        shown = {"rooms": rooms(house), "walk": section(house, walked)}
        print("\n\n".join(shown.values()))
        for name, block in shown.items() if options.write else ():
            markdown.put(_PAGE, block, name)
        return 0
    found = list(figures(house, walked))
    print(text(found, names=options.names))
    return 0 if all(figure.is_within for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
