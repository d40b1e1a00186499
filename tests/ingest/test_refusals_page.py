"""The page about the sidecar lists every refusal, as it is."""

from __future__ import annotations

import re
from pathlib import Path

from collector.ingest.refusals import REFUSALS

_PAGE = Path(__file__).parents[2] / "docs" / "sidecar.md"


def test_the_page_lists_every_refusal() -> None:
    """Code, status and sentence, in order."""
    rows = re.findall(r"^\| (E\d{3}) \| (\d{3}) \| (.*) \|$", _PAGE.read_text(), re.MULTILINE)
    assert rows == [(r.code, str(r.status), r.message) for r in REFUSALS]
