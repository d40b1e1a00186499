"""The environment of a process that examines untrusted data: it holds no secrets."""

from __future__ import annotations

import os
import sys

_INHERITED = ("LD_", "DYLD_", "MALLOC_", "FAKETIME")
"""Prefixes of variables for the dynamic linker, the allocator and libfaketime."""
_PYTHON = ("PYTHONHOME", "PYTHONPLATLIBDIR")
"""Variables that say where Python is."""


def clean_environment() -> dict[str, str]:
    """Return the variables that such a process needs, with the path of its modules."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_INHERITED) or name in _PYTHON
    }
    path = os.pathsep.join(os.path.realpath(entry) for entry in sys.path)
    return environ | {"PYTHONPATH": path}
