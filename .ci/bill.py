"""Write the bill of materials of the wheel (CycloneDX 1.6) to stdout: what `pip install
'data-minimisation-collector[EXTRAS]'` brings, in the versions that are installed here and tested.

The extras are those for production. It has no time and no random number: the same environment
makes the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PRODUCT = "data-minimisation-collector"
EXTRAS = ("sidecar", "grpc", "signing", "otel", "otlp", "postgres", "parquet", "recording")


def bill(extras: tuple[str, ...] = EXTRAS) -> dict[str, Any]:
    """Return the bill for some extras."""
    wanted = {(_PRODUCT, ""), *((_PRODUCT, extra) for extra in extras)}
    edges: dict[str, set[str]] = {}
    queue = sorted(wanted)
    while queue:
        name, extra = queue.pop()
        needs = edges.setdefault(name, set())
        for requirement in _needs(distribution(name), extra):
            other = canonicalize_name(requirement.name)
            if other != name:
                needs.add(other)
            new = {(other, ""), *((other, each) for each in requirement.extras)} - wanted
            wanted |= new
            queue += sorted(new)
    components = [_component(name) for name in sorted(edges) if name != _PRODUCT]
    product = _component(_PRODUCT) | {"type": "application"}
    seed = json.dumps([product, components], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, seed)}",
        "version": 1,
        "metadata": {"component": product},
        "components": components,
        "dependencies": [
            {"ref": _purl(name), "dependsOn": [_purl(each) for each in sorted(needs)]}
            for name, needs in sorted(edges.items())
        ],
    }


def _needs(found: Distribution, extra: str) -> Iterator[Requirement]:
    """Yield what a distribution needs here, with one of its extras or with none."""
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None and not extra:
            yield requirement
        elif requirement.marker is not None:
            without = requirement.marker.evaluate({"extra": ""})
            if requirement.marker.evaluate({"extra": extra}) and (not extra or not without):
                yield requirement


def _purl(name: str) -> str:
    return f"pkg:pypi/{name}@{distribution(name).version}"


def _component(name: str) -> dict[str, Any]:
    found = distribution(name)
    licence = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(name),
        "name": name,
        "version": found.version,
        "purl": _purl(name),
    }
    if re.fullmatch(r"[A-Za-z0-9.+() -]{1,80}", licence):
        is_expression = "License-Expression" in found.metadata
        kind = {"expression": licence} if is_expression else {"license": {"name": licence}}
        component["licenses"] = [kind]
    return component


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
