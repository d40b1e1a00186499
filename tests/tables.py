"""Write the tables of the documents that come from code: ``python -m tests.tables``."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer.main

from collector.cli.app import app
from collector.codes import CODES, GROUPS
from collector.config.model import Config, settings
from collector.ingest.refusals import REFUSALS
from collector.ops.log import EVENTS
from collector.ops.metrics import METRICS
from collector.schema import resources

DOCS = Path(__file__).parent.parent / "docs"
_NAMED = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _errors() -> Iterator[str]:
    for group, (title, about) in GROUPS.items():
        yield f"\n## {group}xx: {title}\n\n{about}\n"
        for code, entry in CODES.items():
            if code.startswith(group):
                name = f"{entry.title[0].upper()}{entry.title[1:]}"
                yield f"\n### {code}\n\n**{name}.** {entry.means} *What to do:* {entry.fix}\n"
    yield "\n"


def _refusals() -> Iterator[str]:
    yield "| code | status | message |\n| --- | --- | --- |\n"
    for each in REFUSALS:
        yield f"| [{each.code}](errors.md#{each.code.lower()}) | {each.status} | {each.message} |\n"


def _settings() -> Iterator[str]:
    yield "| setting | default | what it is |\n| --- | --- | --- |\n"
    defaults = Config()
    for each in settings():
        value = _written(each.name, each.of(defaults))
        yield f"| `{each.name}` | {value} | {each.info.description} |\n"


def _written(name: str, value: object) -> str:
    if value is None or value == [] or (name, value) == ("auth.tokens", 0):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _metrics() -> Iterator[str]:
    yield "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
    for name, one in METRICS.items():
        yield f"| `{name}` | {one.type} | {_names(one.labels)} | {one.meaning} |\n"


def _log() -> Iterator[str]:
    yield "| event | level | meaning | carries |\n| --- | --- | --- | --- |\n"
    for name, event in EVENTS.items():
        yield f"| `{name}` | {event.level} | {event.meaning} | {_names(event.carries)} |\n"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _commands() -> Iterator[str]:
    yield "| command | does |\n| --- | --- |\n"
    queue = [("collector", typer.main.get_command(app))]
    while queue:
        name, command = queue.pop(0)
        inner = getattr(command, "commands", {})
        if inner:
            queue[:0] = [(f"{name} {each}", inner[each]) for each in inner]
        else:
            first = " ".join((command.help or "").split("\n\n")[0].split())
            about = re.split(r"(?<=\.) (?=[A-Z])", first)[0].removesuffix(".")
            pages = dict.fromkeys(re.findall(r"docs/([\w-]+\.md)", command.help or ""))
            links = ", ".join(f"[{page}]({page})" for page in pages)
            about = about.replace("|", "&#124;")
            yield f"| `{name}` | {about}{f' ({links})' if links else ''} |\n"


def _rooms() -> Iterator[str]:
    """Each room of the layers, from the top, with the first sentence of its docstring."""
    root = DOCS.parent
    contract = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    layers = contract["tool"]["importlinter"]["contracts"][0]["layers"]
    yield "| room | is |\n| --- | --- |\n"
    for room in re.findall(r"[a-z_]+", " ".join(layers)):
        path = root / "collector" / room
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if room != "__main__":
            about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            first = " ".join(about.split("\n\n")[0].split()).replace("``", "`")
            sentence = re.split(r"(?<=\.) (?=[A-Z])", first)[0]
            yield f"| `{room}` | {sentence} |\n"


def _catalogues() -> Iterator[str]:
    yield "| catalogue | entries | sources |\n| --- | ---: | ---: |\n"
    for path in sorted((resources.shipped() / "catalogues").glob("*.txt")):
        lines = path.read_text("utf-8").splitlines()
        sources = sum(line.startswith("# source:") for line in lines)
        entries = sum(bool(line) and not line.startswith("#") for line in lines)
        yield f"| `{path.stem}` | {entries:,} | {sources} |\n"


def _decisions() -> Iterator[str]:
    yield "| | |\n| --- | --- |\n"
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        yield f"| [{path.name[:4]}]({path.name}) | {title} |\n"


_TABLES = {
    "catalogues": _catalogues,
    "commands": _commands,
    "decisions": _decisions,
    "errors": _errors,
    "log": _log,
    "metrics": _metrics,
    "refusals": _refusals,
    "rooms": _rooms,
    "settings": _settings,
}


def pages() -> dict[Path, str]:
    """Return the pages that have tables from code, as they should be."""
    found = {}
    for path in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = path.read_text("utf-8")
        current = _NAMED.sub(lambda m: f"{m[1]}{''.join(_TABLES[m[2]]())}{m[3]}", text)
        if _NAMED.search(text):
            found[path] = current
    return found


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content, "utf-8")
