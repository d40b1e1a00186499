"""Where schemas, catalogues and the taxonomy lie: beside the user's file, or shipped with us.

The shipped directory is ``collector/schemas`` in an installed wheel and the top-level ``schemas``
in a clone.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["catalogue", "claims", "is_path", "names", "samples", "schema", "shipped", "taxonomy"]

_CLAIMS = "claims"


@cache
def shipped() -> Path:
    """The directory of the shipped schemas."""
    package = Path(__file__).resolve().parent.parent
    wheel = package / "schemas"
    return wheel if wheel.is_dir() else package.parent / "schemas"


def taxonomy() -> Path:
    """The file of the fideslang keys."""
    return shipped() / "taxonomy.json"


def claims() -> Path:
    """The file of the public claims, which lies among the schemas and is none."""
    return shipped() / f"{_CLAIMS}.yaml"


def names() -> list[str]:
    """The names of the shipped schemas, sorted."""
    return sorted(path.stem for path in shipped().glob("*.yaml") if path.stem != _CLAIMS)


def is_path(reference: str) -> bool:
    """Whether a reference is a path and no name: it has a separator or ends in ``.y(a)ml``."""
    return "/" in reference or "\\" in reference or reference.endswith((".yaml", ".yml"))


def schema(reference: str) -> Path | None:
    """The file that a name or a path means, or ``None``."""
    if is_path(reference):
        return Path(reference)
    return shipped() / f"{reference}.yaml" if reference in names() else None


def catalogue(name: str, beside: Path | None) -> Path | None:
    """The catalogue file: beside the schema file first, then among the shipped ones."""
    places = [beside, beside / "catalogues"] if beside else []
    for place in [*places, shipped() / "catalogues"]:
        path = place / f"{name}.txt"
        if path.is_file():
            return path
    return None


def samples(path: Path) -> list[Path]:
    """The sample files beside a schema file: ``<name>.samples/*.json``, sorted."""
    return sorted(path.with_name(f"{path.stem}.samples").glob("*.json"))
