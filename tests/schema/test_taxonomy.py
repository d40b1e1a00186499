"""The shipped keys are fideslang's: compared with the package, in an environment of its own.

The package pins an old pydantic, so it is not among our dependencies;
``make .venv-fideslang/.made`` installs the version that ``schemas/taxonomy.json`` names.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.schema import policy, resources
from tests.conftest import required

_PYTHON = Path(__file__).parent.parent.parent / ".venv-fideslang" / "bin" / "python"
_ASK = """
import json
from importlib.metadata import version
from fideslang.default_taxonomy import DEFAULT_TAXONOMY as taxonomy
keys = {
    kind: {entry.fides_key: entry.version_deprecated for entry in getattr(taxonomy, kind)}
    for kind in ("data_category", "data_use")
}
print(json.dumps({"version": version("fideslang"), **keys}))
"""


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    """What the package says: its version, and its keys, each with when it was given up or null."""
    if not _PYTHON.exists():
        required("fideslang (make .venv-fideslang/.made)")
    done = subprocess.run(
        [_PYTHON, "-I", "-c", _ASK], capture_output=True, check=True, timeout=60, cwd="/"
    )
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def test_the_version_is_the_one_that_is_named(package: dict[str, Any]) -> None:
    source = orjson.loads(resources.taxonomy().read_bytes())["source"]
    named = re.search(r"fideslang (\S+) ", source)
    assert named is not None
    assert package["version"] == named[1]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("data_categories", "data_category"), ("data_uses", "data_use")]
)
def test_the_keys_are_the_same(package: dict[str, Any], ours: str, theirs: str) -> None:
    current = {key for key, given_up in package[theirs].items() if given_up is None}
    assert policy.taxonomy()[ours] == current
