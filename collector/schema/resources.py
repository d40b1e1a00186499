"""Files of schemas, catalogues and the taxonomy: beside the user's file, or shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from collector import documents

_CLAIMS = "claims"
_REVIEWED = ".reviewed.yaml"

shipped: Callable[[], Path] = documents.shipped
"""Return the directory of the shipped documents."""


def taxonomy() -> Path:
    """Return the file of the fideslang keys."""
    return shipped() / "taxonomy.json"


def claims() -> Path:
    """Return the file of the public claims, which is in the same directory as the schemas."""
    return shipped() / f"{_CLAIMS}.yaml"


def names() -> list[str]:
    """List the names of the shipped schemas, sorted."""
    found = (path for path in shipped().glob("*.yaml") if path.stem != _CLAIMS)
    return sorted(path.stem for path in found if not is_approved_copy(path.name))


def templates() -> dict[str, Path]:
    """Return the files of the templates, by name: schemas for telemetry of other products, to be
    copied and changed (``collector schema new``)."""
    return {path.stem: path for path in sorted((shipped() / "templates").glob("*.yaml"))}


def starter() -> Path:
    """Return the file of the commented schema that a new one is copied from."""
    return shipped() / "starter" / "starter.yaml"


def is_path(reference: str) -> bool:
    """Return whether a reference is a path, not a name: it has a separator or ends in
    ``.y(a)ml``."""
    return "/" in reference or "\\" in reference or reference.endswith((".yaml", ".yml"))


def schema(reference: str) -> Path | None:
    """Return the file of a schema's name or path, or ``None``."""
    if is_path(reference):
        return Path(reference)
    return shipped() / f"{reference}.yaml" if reference in names() else None


def is_approved_copy(name: str) -> bool:
    """Return whether a file's name is that of an approved copy, which is not a schema."""
    return name.endswith(_REVIEWED)


def approved_copy(reference: str, directory: Path) -> Path:
    """Return the path of a schema's approved copy: beside the schema's file, or for a shipped
    schema (named without a path) in ``directory``."""
    if not is_path(reference):
        return directory / f"{reference}{_REVIEWED}"
    path = Path(reference)
    return path.with_name(path.name.removesuffix(path.suffix) + _REVIEWED)


def catalogue(name: str, directory: Path | None) -> Path | None:
    """Find a catalogue file beside the schema file, else among the shipped ones."""
    places = [directory, directory / "catalogues"] if directory else []
    for place in [*places, shipped() / "catalogues"]:
        path = place / f"{name}.txt"
        if path.is_file():
            return path
    return None


def samples(path: Path) -> list[Path]:
    """List the sample files beside a schema file: ``<name>.samples/*.json``, sorted."""
    return sorted(path.with_name(f"{path.stem}.samples").glob("*.json"))
