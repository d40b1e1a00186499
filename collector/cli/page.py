"""``collector page``: write the public page of a configuration, and the same facts as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from collector.claims.document import load_all_claims
from collector.cli.claims import checked
from collector.cli.console import err
from collector.cli.data_dir import settings
from collector.cli.options import ConfigFile, Data, unwritable
from collector.config import Config
from collector.errors import ConfigError, file_name
from collector.pages.history import history
from collector.pages.model import Page, build
from collector.pages.phrases import Language
from collector.pages.render import render
from collector.routing.schemas import configured


def page(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The directory to write to.")
    ],
    config: ConfigFile = None,
    data: Data = None,
    language: Annotated[Language, typer.Option("--language", help="English or Indonesian.")] = "en",
) -> None:
    """Write the public page: what is collected and why, what becomes of an event, who receives it,
    and whether each promise holds.

    Runs the checks of `collector claims`. `index.html` is a single file that loads nothing else and
    works from disk; `page.json` has the same facts. docs/claims.md describes both.
    """
    made = _page(settings(config, data), config)
    files = {"index.html": render(made, language), "page.json": made.as_json()}
    for name, content in files.items():
        path = output / name
        try:
            output.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (FileExistsError, NotADirectoryError):
            message = f"{file_name(output)} is a file; name a directory"
            raise ConfigError("E203", message) from None
        except OSError as error:
            raise unwritable(path, error) from None
        err.print(str(path), markup=False, soft_wrap=True)


def _page(config: Config, file: Path | None) -> Page:
    schemas, now = configured(config), datetime.now(UTC)
    _, verdicts = checked(config, load_all_claims(config.claims), file)
    versions = {
        schema.name: history(reference, schema, now.date())
        for reference, schema in zip(config.references, schemas, strict=True)
    }
    return build(config, schemas, verdicts, checked=now, now=now, history=versions)
