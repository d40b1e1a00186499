"""The pages for people at the admin address: the public page at ``/``, and ``/status``.

A thread makes the public page and its facts as data when somebody first asks for them, and again
only when the configuration, a recorded verdict or the hour has changed, which is checked at most
once a second. They describe whole hours, so they reveal no time at which anything was sent. The
status is made at most once a second. The code for pages is loaded at the first request, because
most sidecars never show one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from collector.config import Config
from collector.errors import CollectorError
from collector.ledger import opened
from collector.ledger.entry import Entry
from collector.ops.error_log import ErrorLog
from collector.schema.kinds.base import utc_now
from collector.schema.model import Schema
from collector.schema.stored_document import load_stored
from collector.server.components import Components
from collector.server.status import Status, last_hours, render_status, status_style

if TYPE_CHECKING:
    from collector.pages.model import SchemaVersion

_LOOK_SECONDS = 1.0
_STATUS_SECONDS = 1.0
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_MOST_ENTRIES = 30
"""The most versions of a schema that are shown."""


class File(NamedTuple):
    """The response for a path."""

    content_type: str
    body: bytes
    policy: str
    tag: bytes


class LivePages:
    """Makes the pages of a sidecar. ``status`` returns the present status, and is called in the
    event loop. ``clock`` returns the time."""

    def __init__(
        self,
        components: Components,
        status: Callable[[], Status],
        log: ErrorLog,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._components = components
        self._state = status
        self._log = log
        self._clock = clock
        self._files: Mapping[str, File] = {}
        self._config: Config | None = None
        self._made_of: tuple[object, ...] = ()
        self._looked = -inf
        self._looking = asyncio.Lock()
        self._status: tuple[float, File] | None = None
        self._making = asyncio.Lock()

    async def file(self, path: str, language: str) -> File | None:
        """Return the public page in a language, its facts, or the status; ``None`` if that cannot
        be made."""
        if path == "/status":
            return await self._status_file()
        async with self._looking:
            if monotonic() - self._looked >= _LOOK_SECONDS:
                await asyncio.to_thread(self.update)
                self._looked = monotonic()
        return self._files.get(path if path != "/" else f"/{language}", self._files.get("/en"))

    async def _status_file(self) -> File | None:
        """Return the status, which is at most a second old."""
        async with self._making:
            if self._status is None or monotonic() - self._status[0] > _STATUS_SECONDS:
                from collector.pages.render import policy  # noqa: PLC0415 - only for a page

                try:
                    body = await asyncio.to_thread(render_status, self._state())
                except Exception as error:  # noqa: BLE001 - after any error all else goes on
                    self._log.unexpected(error)
                    return None
                made = _file(_HTML, body, policy(status_style()))
                self._status = monotonic(), made
            return self._status[1]

    def update(self) -> None:
        """Make the pages anew if they are outdated. Called in a thread."""
        config, facts = self._components.config, self._facts()
        if config is self._config and facts == self._made_of:
            return
        # A page that cannot be made is not retried until something changes.
        self._config, self._made_of = config, facts
        try:
            self._files = self._made()
        except Exception as error:  # noqa: BLE001 - the previous pages are sent
            self._log.unexpected(error)

    def _facts(self) -> tuple[object, ...]:
        """Return the other inputs of the pages that may change."""
        from collector.claims.verdicts import FILE_NAME  # noqa: PLC0415 - only for a page

        components, state = self._components, None
        with suppress(OSError):
            found = (self._data / FILE_NAME).stat()
            state = found.st_mtime_ns, found.st_size, found.st_ino
        copies = [copy.state for copy in components.copies]
        return copies, state, _hour(self._clock())

    @property
    def _data(self) -> Path:
        return self._components.config.data or Path()

    def _made(self) -> dict[str, File]:
        from collector.claims.document import load_all_claims  # noqa: PLC0415 - only for a page
        from collector.claims.verdicts import fingerprint, recorded  # noqa: PLC0415
        from collector.pages.model import build  # noqa: PLC0415
        from collector.pages.phrases import LANGUAGES  # noqa: PLC0415
        from collector.pages.render import policy, render, static  # noqa: PLC0415

        components, now = self._components, _hour(self._clock())
        config, schemas, copies = components.config, components.schemas, components.copies
        configuration = fingerprint(config, components.flows, copies)
        claims = load_all_claims(config.claims)
        promises, times = recorded(self._data, claims, configuration, now)
        page = build(
            config,
            schemas,
            promises,
            checked=min(times.values(), default=None),
            now=max([now, *times.values()]),
            reviews={each.schema: each for each in components.reviews()},
            history=_history(components.spool.path, schemas),
            hours=last_hours(components.spool.path, now),
        )
        rules = policy(static("page.css"), static("page.js"))
        files = {
            f"/{language}": _file(_HTML, render(page, language), rules) for language in LANGUAGES
        }
        return files | {"/page.json": _file(_JSON, page.as_json(), "default-src 'none'")}


def _hour(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _file(content_type: str, body: bytes, rules: str) -> File:
    tag = f'"{sha256(body).hexdigest()[:32]}"'.encode()
    return File(content_type, body, f"{rules}; frame-ancestors 'none'", tag)


def _history(spool: Path, schemas: Sequence[Schema]) -> dict[str, tuple[SchemaVersion, ...]]:
    """Return from the ledger the versions of each schema that ran here, the newest first."""
    from collector.pages.history import versions  # noqa: PLC0415 - only for a page

    found: dict[str, list[tuple[str, Schema]]] = {schema.name: [] for schema in schemas}
    noted: list[Entry] = []
    with suppress(CollectorError), opened(spool) as ledger:
        documents = dict(ledger.documents())
        noted = [entry for entry in ledger.entries() if entry.kind == "schema"]
        for entry in reversed(noted[-_MOST_ENTRIES:]):
            schema = load_stored(documents.get(entry.fact("digest") or "") or b"")
            if schema is not None and schema.name in found:
                found[schema.name].append((entry.minute[:10], schema))
    is_whole = len(noted) <= _MOST_ENTRIES
    return {name: tuple(versions(each, is_whole=is_whole)) for name, each in found.items() if each}
