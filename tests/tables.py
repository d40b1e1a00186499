"""Write the tables of the documents that come from code: ``python -m tests.tables``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer.main

from collector.cli.app import app
from collector.codes import CODES, GROUPS, Code
from collector.ingest.refusals import REFUSALS

DOCS = Path(__file__).parent.parent / "docs"
_HEAD = """\
# Errors

Every error has a code. `collector error E307` explains it on the command line, and `collector
error` lists all. Two faults share a code if they are fixed the same way; the message and its place
say the rest. A message says what was wrong, where, and what to do. It never holds a value of an
event, nor a key that the schema does not list. All faults of a document are reported at once, each
as

```text
file:line:column: field: message [E1xx]
```

In Python they are exceptions of `collector.CollectorError`: `SchemaError` and `ConfigFaults` (with
all `faults` of documents and settings), `ConfigError`, `InputError` and `DeliveryError`; `code` is
the code.

In the examples of schemas, keys at the beginning of a line belong to the document, and indented
ones to its `fields`.

<!-- Written from collector/codes.py by `make tables`. -->
"""
_NAMED = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def errors() -> str:
    """Return the page of errors."""
    parts = [_HEAD]
    for group, (title, about) in GROUPS.items():
        parts.append(f"## {group}xx: {title}\n\n{about}\n")
        parts += [_section(code, CODES[code]) for code in CODES if code.startswith(group)]
    return "\n".join(parts)


def _section(code: str, entry: Code) -> str:
    sign = "$ " if entry.language == "console" else ""
    bad, good = (
        "".join(f"{sign}{line}\n" for line in text.rstrip("\n").split("\n"))
        for text in (entry.bad, entry.good)
    )
    return (
        f"### {code}\n\n**{entry.title[0].upper()}{entry.title[1:]}.** {entry.means}\n\n"
        f"Why: {entry.why}\n\nWhat to do: {entry.fix}\n\n"
        f"```{entry.language}\n{bad}```\n\nWithout the error:\n\n```{entry.language}\n{good}```\n"
    )


def _refusals() -> Iterator[str]:
    yield "| code | status | message |\n| --- | --- | --- |\n"
    for each in REFUSALS:
        yield f"| [{each.code}](errors.md#{each.code.lower()}) | {each.status} | {each.message} |\n"


def _commands() -> Iterator[str]:
    """Each command with the first sentence of its help, and the pages that the help names."""
    yield "| command | does |\n| --- | --- |\n"
    queue = [("collector", typer.main.get_command(app))]
    for name, command in queue:
        inner = getattr(command, "commands", {})
        at = queue.index((name, command)) + 1
        queue[at:at] = [(f"{name} {word}", each) for word, each in inner.items()]
        if not inner:
            text = " ".join((command.help or "").split("\n\n")[0].split())
            pages = dict.fromkeys(re.findall(r"docs/(\w[\w-]*\.md)", command.help or ""))
            links = ", ".join(f"[{page}]({page})" for page in pages)
            does = re.split(r"\.(?= [A-Z])", text)[0].removesuffix(".")
            yield f"| `{name}` | {does}{f' ({links})' if links else ''} |\n"


_TABLES = {"commands": _commands, "refusals": _refusals}


def pages() -> dict[Path, str]:
    """Return the pages that have tables from code, as they should be."""
    found = {DOCS / "errors.md": errors()}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text("utf-8")
        current = _NAMED.sub(lambda m: f"{m[1]}{''.join(_TABLES[m[2]]())}{m[3]}", text)
        if _NAMED.search(text) and path not in found:
            found[path] = current
    return found


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content, "utf-8")
