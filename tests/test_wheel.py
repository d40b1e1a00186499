"""What a user installs: the wheel holds the schemas, and works without a clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree and unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=_ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_schemas_and_types_are_inside(wheel: Path) -> None:
    """Every file of the schemas folder, and the typing marker."""
    for path in (_ROOT / "schemas").rglob("*"):
        assert (wheel / "collector" / "schemas" / path.relative_to(_ROOT / "schemas")).exists()
    assert (wheel / "collector" / "py.typed").exists()
    assert not (wheel / "tests").exists()


def test_it_works_without_a_clone(wheel: Path, tmp_path: Path) -> None:
    """Schemas, catalogues and the taxonomy are found inside the package."""
    code = (
        "import collector, pathlib, sys\n"
        "from collector.schema import shelf\n"
        f"assert pathlib.Path(collector.__file__).is_relative_to({str(wheel)!r})\n"
        f"assert shelf.shipped().is_relative_to({str(wheel)!r})\n"
        "filter = collector.Filter(collector.load_schema('conferencing'))\n"
        "print(filter.admit(b'{\"device.model.name\": \"Pixel 8\"}').encode().decode(), end='')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(wheel)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b'{"schema":"conferencing/1.0.0","device.model.name":"Pixel 8"}\n'
