"""What a user installs: the wheel holds schemas and documents, and works without a clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.deadline import WAIT_SECONDS

_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree and unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=_ROOT, check=True, capture_output=True, timeout=WAIT_SECONDS)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_schemas_documents_and_types_are_inside(wheel: Path) -> None:
    """Every file of both folders, and the typing marker."""
    for folder in ("schemas", "docs"):
        for path in (_ROOT / folder).rglob("*"):
            assert (wheel / "collector" / path.relative_to(_ROOT)).exists()
    assert (wheel / "collector" / "py.typed").exists()
    assert not (wheel / "tests").exists()


def run(wheel: Path, folder: Path, *arguments: str) -> str:
    """What Python prints when only the wheel is installed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(wheel), "COLUMNS": "300"},
        capture_output=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_it_works_without_a_clone(wheel: Path, tmp_path: Path) -> None:
    """Schemas, catalogues and the taxonomy are found inside the package."""
    code = (
        "import collector, pathlib, sys\n"
        "from collector.schema import resources\n"
        f"assert pathlib.Path(collector.__file__).is_relative_to({str(wheel)!r})\n"
        f"assert resources.shipped().is_relative_to({str(wheel)!r})\n"
        "filter = collector.Filter(collector.load_schema('conferencing'))\n"
        "print(filter.admit(b'{\"device.model.name\": \"Pixel 8\"}').encode().decode(), end='')\n"
    )
    shown = run(wheel, tmp_path, "-c", code)
    assert shown == '{"schema":"conferencing/1.0.0","device.model.name":"Pixel 8"}\n'


def test_help_says_where_the_documents_are(wheel: Path, tmp_path: Path) -> None:
    assert str(wheel / "collector" / "docs" / "README.md") in run(
        wheel, tmp_path, "-m", "collector", "--help"
    )
