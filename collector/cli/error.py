"""``collector error``: explain an error code."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.syntax import Syntax

from collector.cli.console import new_table, out, print_json, seen
from collector.cli.options import AsJson
from collector.codes import CODES, GROUPS
from collector.documents import nearest
from collector.errors import UsageError

_CODE = re.compile("E[0-9]{3}", re.ASCII).fullmatch
_LINK = re.compile(r"\[([^]]*)\]\(([^)]*)\)")


def error(
    code: Annotated[
        str, typer.Argument(help="A code, such as E307. Without one, all are listed.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Explain an error code: what it means, why it is an error, and what to do.

    collector error E307
    """
    if code:
        _show(_known(code), as_json=as_json)
    elif as_json:
        print_json([{"code": code, "title": entry.title} for code, entry in CODES.items()])
    else:
        _list()


def _known(text: str) -> str:
    """Return the code that a text names. Raises ``UsageError`` E132."""
    code = text.strip().upper().strip("[]")
    code = f"E{code}" if code.isdecimal() else code
    if code in CODES:
        return code
    hint = "" if _CODE(code) else nearest(code, CODES)
    group = [known for known in CODES if known[:2] == code[:2]]
    if _CODE(code) and group:
        hint = (
            f"; the nearest one is {min(group, key=lambda one: abs(int(one[1:]) - int(code[1:])))}"
        )
    hint = hint or "; `collector error` lists all codes"
    raise UsageError("E132", f"no error has this code{hint}")


def _show(code: str, *, as_json: bool) -> None:
    entry = CODES[code]
    if as_json:
        print_json({"code": code, **entry._asdict()})
        return
    parts = [
        (heading, _LINK.sub(r"\1 (docs/\2)", text))
        for heading, text in (
            ("Meaning", entry.means),
            ("Why", entry.why),
            ("What to do", entry.fix),
        )
    ]
    examples = [("Gives this error", entry.bad), ("Does not", entry.good)]
    if not out.is_terminal:
        _print(f"{code}: {entry.title}")
        for heading, text in parts:
            _print(f"\n{heading}: {text}")
        for heading, example in examples:
            _print(f"\n{heading}:\n\n{_indented(example)}")
        return
    out.print(f"[bold]{code}[/]  {seen(entry.title)}")
    for heading, text in parts:
        out.print(f"\n[dim]{heading}[/]")
        out.print(Markdown(text), soft_wrap=False)
    for heading, example in examples:
        out.print(f"\n[dim]{heading}[/]")
        lexer = "text" if entry.language == "console" else entry.language
        out.print(Syntax(example.rstrip("\n"), lexer, background_color="default", word_wrap=True))


def _list() -> None:
    for group, about in GROUPS.items():
        table = new_table("code", "title", whole=["code"])
        for code, entry in CODES.items():
            if code.startswith(group):
                table.add_row(code, seen(entry.title))
        out.print(f"[bold]{group}xx[/]  {about.title}")
        out.print(table)
        out.print()


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip("\n").split("\n"))


def _print(text: str) -> None:
    out.print(text, markup=False, highlight=False)
