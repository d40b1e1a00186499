"""The settings that every sink has, and the base of all settings' sections.

A type of sinks derives its own settings from ``SinkSettings``; see ``docs/sinks.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collector.config.values import Country, Purposes, Recipient, Size, matching
from collector.contracts import Share
from collector.documents import BUILDS_LATER
from collector.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
is_sink_name: Callable[[str], re.Match[str] | None] = _NAME.fullmatch
"""Match the name of a sink, which is also the form of a type's name."""


class Section(BaseModel):
    """Settings that belong together. ``repr`` shows no values: some of them are secrets."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_name=True,
        defer_build=BUILDS_LATER,
    )

    def __repr__(self) -> str:
        return f"<settings of {type(self).__name__.lower()}>"

    __str__ = __repr__

    def __rich_repr__(self) -> Any:
        yield from ()


Party = Literal["first", "processor", "third"]
PARTIES: tuple[Party, ...] = get_args(Party)
"""From the nearest to the furthest."""


_TYPE = matching(
    _NAME.pattern, "write the name of a type of sinks: lower-case letters, digits and `-`"
)


class SinkSettings(Section):
    """The party that a sink belongs to, and its purposes; the base of each type's settings.

    A type overrides the properties below where its sinks differ from the defaults.
    """

    type: Annotated[str | None, *_TYPE] = Field(
        None, description="The type of the sink. Default: its name."
    )
    party: Party = Field(
        "first",
        description="Who runs it: `first` (you), `processor` (a company that works for you under a"
        " contract) or `third` (anyone else).",
    )
    purposes: Purposes = Field(
        None,
        description="The purposes of the schema that it serves; it gets only the fields for these."
        " Default for a `first` party: all.",
    )
    recipient: Recipient = Field(
        None,
        description="The name of the recipient in the privacy notice; required unless the party is"
        " `first`.",
    )
    country: Country = Field(
        None, description="The country that records go to, two letters, such as `DE`."
    )
    safeguard: Recipient = Field(
        None,
        description="What protects records in another country, for the privacy notice, such as"
        " `standard contractual clauses of the EU`.",
    )

    limit: Annotated[Size, Field(ge=1 << 20, le=1 << 50)] | None = Field(
        None,
        description="How many bytes of records in the spool may wait for it. Default: as many as in"
        " the whole spool, `spool.limit`.",
    )
    when_full: Literal["refuse", "skip"] = Field(
        "refuse",
        description="What happens while so many wait: `refuse` (senders get 503) or `skip` (this"
        " sink misses what comes, and the ledger states how much). `skip` needs a `limit`.",
    )

    has_state: ClassVar[bool] = False
    """Whether a sink of the type has files in its own directory, not only at its location. Then it
    counts the files there that it did not make."""

    @classmethod
    def at(cls, type_: str, path: Path) -> Self:
        """Return the settings of a sink at the path of an SDK's target, ``to=SCHEME:///PATH``. A
        type whose location is not its setting ``path`` overrides this.

        Raises ``ConfigError`` E107 if a path is not enough for the type.
        """
        values: dict[str, Any] = {"type": type_, "path": path}
        with suppress(ValidationError):
            return cls(**values)
        raise ConfigError(
            "E107", "a sink of this type needs more settings than a path; use a sidecar"
        )

    @classmethod
    def at_address(cls, type_: str, url: str) -> Self:
        """Return the settings of a sink at the address of an SDK's target, ``to=SCHEME://HOST…``.

        Raises ``ConfigError`` E107 if an address is not enough for the type.
        """
        values: dict[str, Any] = {"type": type_, "url": url}
        with suppress(ValidationError):
            return cls(**values)
        raise ConfigError(
            "E107", "a sink of this type cannot use this address; correct it, or use a sidecar"
        )

    @property
    def share(self) -> Share:
        """Its share of the spool."""
        return Share(self.limit, self.when_full == "skip")

    @property
    def is_on(self) -> bool:
        """Whether the sink gets records."""
        return True

    @property
    def is_local(self) -> bool:
        """Whether the location is a file of this machine; where not, ``party`` must be stated."""
        return False

    def place(self, directory: Path) -> str:
        """Name the location in the flow matrix, without credentials; ``directory`` is the sink's
        own."""
        return str(directory) if self.is_local else self.type or type(self).__name__.lower()

    @property
    def known_at(self) -> str | None:
        """The place that recognises a batch by its id, whichever sink delivers it, so two sinks
        cannot share it. Slashes separate its parts. ``None``: there is no such place, or it is one
        of ``files``."""
        return None

    @property
    def shared_name(self) -> str:
        """The name under which applications open the sink. If a type keeps files in a directory of
        its own, the name has a digest of the place, so that each place has another directory."""
        type_ = self.type or type(self).__name__.lower()
        if not self.has_state:
            return type_
        place = self.place(Path())
        place = str(Path(place).resolve()) if self.is_local else place.rstrip("/")
        return f"{type_}-{sha256(os.fsencode(place)).hexdigest()[:12]}"

    def files(self) -> Mapping[str, Path]:
        """Return the files that the sink writes at paths of its settings, by setting."""
        return {}

    def beyond(self) -> Iterable[str]:
        """Name further places where records of this sink may be, such as backups. Collector cannot
        erase there, so each answer about rights lists them."""
        return (f"copies that others made of {path}" for path in self.files().values())

    def settled(self, directory: Path) -> Self | None:
        """Return settings that name the location even if it is in the sink's own ``directory`` by
        default. They serve for a sink of an earlier configuration, whose name another sink may have
        now. ``None`` if there are none."""
        if not self.is_local:
            return self
        if "path" not in type(self).model_fields:
            return None
        return (
            self if self.files() else self.model_copy(update={"path": Path(self.place(directory))})
        )

    def moved(self, directory: Path) -> SinkSettings | None:
        """Return the settings of the same sink in an empty directory, for a dry run. ``None`` if
        the sink cannot write there; a stand-in then gets its records."""
        return None
