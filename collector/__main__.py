"""``python -m collector``: the same as the command ``collector``."""

from __future__ import annotations

from collector.cli import main

if __name__ == "__main__":
    main()
