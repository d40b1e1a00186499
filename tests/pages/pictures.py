"""Take the pictures of the documents: ``python -m tests.pages.pictures``, with Chromium.

``collector page`` writes the page of an example, checks and all; the pictures show its top, as far
as the pipe goes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import FloatRect, sync_playwright

_DOCS = Path(__file__).parents[2] / "docs"
_EXAMPLE = """
about: {controller: Acme Meetings, contact: privacy@acme.example, country: ID}
sinks:
  store: {purposes: [service_operations, security]}
  lake:
    type: ndjson
    path: lake.ndjson
    party: processor
    recipient: Example Cloud
    country: DE
    safeguard: standard contractual clauses of the EU
    purposes: [capacity_planning]
"""
_FOCUSED = '.event li.line[data-fields="device.type"]'


def main() -> None:
    """Write ``docs/page.png`` and ``docs/page-dark.png``."""
    with TemporaryDirectory(prefix="collector-pictures-") as name, sync_playwright() as started:
        folder = Path(name)
        (folder / "collector.yaml").write_text(_EXAMPLE)
        command = (sys.executable, "-m", "collector", "page", "-o", "out", "--config")
        subprocess.run([*command, "collector.yaml"], cwd=folder, check=True)
        browser = started.chromium.launch(
            executable_path=which("chromium"),
            args=["--no-sandbox", "--force-device-scale-factor=1"],
        )
        schemes: tuple[tuple[Literal["light", "dark"], str], ...]
        schemes = (("light", "page.png"), ("dark", "page-dark.png"))
        for scheme, file in schemes:
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            tab.goto((folder / "out" / "index.html").as_uri())
            tab.locator(_FOCUSED).focus()
            flow = tab.locator(".flow").first.bounding_box()
            assert flow is not None
            bottom = flow["y"] + flow["height"] + tab.evaluate("scrollY")
            clip: FloatRect = {"x": 0, "y": 0, "width": 1280, "height": bottom + 18}
            tab.screenshot(path=_DOCS / file, full_page=True, clip=clip)
        browser.close()


if __name__ == "__main__":
    main()
