"""The settings of a lake of Parquet files: where it is, and when records become a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from collector.config.sink_settings import SinkSettings
from collector.config.values import Bucket, Duration, Endpoint, Line, Location, Reference, Size
from collector.documents import fault

PARTITION = "day"
"""Readers take a part of each file's path, `day=2026-11-27`, for a column of this name."""

_HOUR = 3600.0
_MIB = 1 << 20


class ParquetSettings(SinkSettings):
    """Records as Parquet files."""

    has_state = True

    path: Location = Field(
        None, description="The directory of the files, on this machine; this or `url`."
    )
    url: Bucket = Field(
        None, description="A bucket with a prefix: `s3://BUCKET/PREFIX`, `gs://…` or `az://…`."
    )
    endpoint: Endpoint = Field(
        None, description="The address of a bucket that is not the provider's, such as a MinIO."
    )
    region: Line | None = Field(None, description="The region of the bucket.")
    access_key: Reference = Field(
        None,
        description="Where the name of the bucket's key is: `env:NAME` or `file:PATH`. Default:"
        " where the provider's tools look.",
    )
    secret_key: Reference = Field(
        None, description="Where the secret of that key is: `env:NAME` or `file:PATH`."
    )
    every: Annotated[Duration, Field(ge=1, le=24 * _HOUR)] = Field(
        _HOUR, description="How long records are collected until they become a file."
    )
    size: Annotated[Size, Field(ge=_MIB, le=1024 * _MIB)] = Field(
        128 * _MIB, description="How many bytes of records, before compression, become a file."
    )

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise fault("E107", "a Parquet sink needs a `path` or a `url`, not both")
        return self

    @classmethod
    def at_address(cls, type_: str, url: str) -> Self:
        """Return the settings of a sink at ``parquet+s3://BUCKET/PREFIX``, as an SDK names it."""
        return super().at_address(type_, url.removeprefix(f"{type_}+"))

    @property
    def is_local(self) -> bool:
        """Whether the files are on this machine."""
        return self.path is not None

    def place(self, directory: Path) -> str:
        """Name the directory or the bucket."""
        return str(self.url if self.path is None else self.path)

    @property
    def known_at(self) -> str | None:
        """The prefix of a bucket."""
        return None if self.url is None else f"{self.endpoint or ''} {self.url}"

    @property
    def place_digest(self) -> str:
        """The digest that identifies the place."""
        place = self.known_at or str(Path(self.place(Path())).resolve())
        return sha256(os.fsencode(place.rstrip("/"))).hexdigest()

    def files(self) -> Mapping[str, Path]:
        """Return the directory."""
        return {} if self.path is None else {"path": self.path}

    def beyond(self) -> Iterable[str]:
        """Name earlier versions that a bucket may keep."""
        if self.path is not None:
            return super().beyond()
        return (f"earlier versions, replicas and backups of the objects in {self.url}",)

    def moved(self, directory: Path) -> ParquetSettings:
        """Return the same settings with files in another directory."""
        changes = {"path": directory / "lake", "url": None, "endpoint": None}
        return self.model_copy(update=changes)
