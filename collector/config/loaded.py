"""Settings that have been loaded, where each comes from, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collector.config.model import Config
from collector.errors import Fault, SchemaError

__all__ = ["Loaded"]

_NO_SCHEMA = ("E101", "E140")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each comes from: ``default``, ``environment``, or file and line.

    ``faults`` are all that is wrong; ``sound`` says whether a setting is what was written.
    """

    config: Config
    origins: Mapping[str, str]
    faults: tuple[Fault, ...] = ()
    faulty: frozenset[str] = frozenset()

    def sound(self, name: str) -> bool:
        """Whether nothing is wrong with a setting, nor with a section that it is in."""
        parts = name.split(".")
        return not any(".".join(parts[: end + 1]) in self.faulty for end in range(len(parts)))

    def fault(self, name: str, message: str, code: str) -> Fault:
        """A fault of a setting, at the place where its value comes from."""
        file, _, line = self.origins[name].rpartition(":")
        place = (file, int(line), 1) if file else (line, 0, 0)
        return Fault(*place, name, message, code)

    def schema_faults(self, error: SchemaError) -> list[Fault]:
        """The faults of the schema; that there is none is one of the setting that names it."""
        return [
            self.fault("schema", one.message, one.code) if one.code in _NO_SCHEMA else one
            for one in error.faults
        ]
