"""The environment of a process that we start to look at what others sent: no secret is in it."""

from __future__ import annotations

import os
import sys

_INHERITED = ("LD_", "DYLD_", "MALLOC_", "FAKETIME")
"""What the dynamic linker, the allocator and libfaketime read;"""
_PYTHON = ("PYTHONHOME", "PYTHONPLATLIBDIR")
"""and where Python is."""


def clean_environment() -> dict[str, str]:
    """Return what such a process needs of this one's environment, and where its modules are."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_INHERITED) or name in _PYTHON
    }
    path = os.pathsep.join(os.path.realpath(entry) for entry in sys.path)
    return environ | {"PYTHONPATH": path}
