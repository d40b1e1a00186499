"""What the package makes on first use (validators, commands, a compiled filter, the templates
and phrases of pages), made once by the process that forks others (``tests.forkserver``), which
loads this."""

from __future__ import annotations

from collector.claims.document import load_all_claims
from collector.cli.app import NAMES, command
from collector.config import Config, read
from collector.config.sink_types import names as sink_names
from collector.filter import Filter
from collector.pages.model import build
from collector.pages.phrases import LANGUAGES
from collector.pages.render import policy, render, static
from collector.schema import load_schema
from collector.schema.kinds.base import utc_now
from tests import memo

memo.install()

_SCHEMA = load_schema("conferencing")
assert _SCHEMA.digest
Filter(_SCHEMA).admit(b'{"ip_address": "203.0.113.7"}')
read(environ={})
for _name in NAMES:
    command(_name)
command(*NAMES)
load_all_claims(None)
sink_names()
_page = build(Config(), [_SCHEMA], (), checked=None, now=utc_now())
for _language in LANGUAGES:
    render(_page, _language)
policy(static("page.css"), static("page.js"))
