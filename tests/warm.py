"""What the package makes on first use (validators, commands, a compiled filter), made once by the
process that forks others (``tests.forkserver``), which loads this."""

from __future__ import annotations

from collector.cli.app import NAMES, command
from collector.config import read
from collector.filter import Filter
from collector.schema import load_schema

_SCHEMA = load_schema("conferencing")
assert _SCHEMA.digest
Filter(_SCHEMA).admit(b'{"ip_address": "203.0.113.7"}')
read(environ={})
for _name in NAMES:
    command(_name)
command(*NAMES)
