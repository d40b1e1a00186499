"""Fluent Bit: its tail input with a JSON parser, and the allowlist of record_modifier.

The allowlist knows names of the top level. Strongest, a ``grep`` for each listed value of a meeting
besides: a record with a value that does not match is dropped as a whole. Events that are lists are
not read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.leaks.contenders.base import Contender, Spec, by_shape

_USUAL = "/opt/fluent-bit/bin/fluent-bit"
_ID = "number"
_ADDRESS = "[0-9a-fA-F:.]{2,45}"
_MEMBERS = {
    "meeting": ("client", "device", "os"),
    "webrtc": (),
    "vendor": ("participants",),
    "logs": ("resourceLogs",),
    "traces": ("resourceSpans",),
    "metrics": ("resourceMetrics",),
}


def _pattern(field: dict[str, Any]) -> str:
    """Return an expression for what no value of a field is."""
    values = "|".join(map(re.escape, field.get("values", ())))
    return f"^(?!(?:{values or field.get('pattern', _ADDRESS)})$)"


def _variables(fields: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the expressions by variable: a line of a configuration may not be as long."""
    return {name.replace(".", "_"): _pattern(field) for name, field in fields.items()}


def _filters(shape: str, fields: dict[str, dict[str, Any]], *, checks: bool) -> str:
    allowed = "".join(f"    allowlist_key {key}\n" for key in (*_MEMBERS[shape], _ID))
    text = f"[FILTER]\n    name record_modifier\n    match *\n{allowed}"
    if checks and shape == "meeting":
        for name in fields:
            first, *others = name.split(".")
            accessor = f"${first}" + "".join(f"['{key}']" for key in others)
            rule = f"exclude {accessor} ${{{name.replace('.', '_')}}}"
            text += f"[FILTER]\n    name grep\n    match *\n    {rule}\n"
    return text


def make(variant: str, spec: Spec) -> Contender:
    """Make it."""
    executable = os.environ.get("FLUENT_BIT") or shutil.which("fluent-bit") or shutil.which(_USUAL)
    if executable is None:
        raise ImportError("fluent-bit", name="fluent-bit")
    checks = variant == "strongest"

    def run(shape: str, texts: list[str]) -> list[str]:
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "parsers.conf").write_text("[PARSER]\n    name json\n    format json\n")
            with (folder / "in.ndjson").open("w", encoding="utf-8") as file:
                for number, text in enumerate(texts):
                    start = f'{{"{_ID}":{number},' if text.startswith("{") else text[:1]
                    file.write(f"{start}{text[1:]}\n")
            (folder / "all.conf").write_text(
                f"[SERVICE]\n    parsers_file {folder}/parsers.conf\n"
                f"[INPUT]\n    name tail\n    path {folder}/in.ndjson\n    read_from_head true\n"
                "    exit_on_eof true\n    parser json\n"
                f"{_filters(shape, spec[shape], checks=checks)}"
                f"[OUTPUT]\n    name file\n    match *\n    path {folder}\n    file out\n"
                "    format plain\n"
            )
            command = [executable, "--quiet", "-c", str(folder / "all.conf")]
            variables = os.environ | _variables(spec[shape])
            subprocess.run(command, capture_output=True, check=True, env=variables)
            outputs, written = [""] * len(texts), folder / "out"
            lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
            for line in lines:
                event = json.loads(line)
                number = event.pop(_ID, None)
                if number is not None:
                    outputs[number] = json.dumps(event, ensure_ascii=False)
        return outputs

    told = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    shown = _filters("meeting", spec["meeting"], checks=checks)
    if checks:
        shown += "".join(f"{name}={text}\n" for name, text in _variables(spec["meeting"]).items())
    return Contender(
        by_shape(run), shown, told.stdout.partition("\n")[0].removeprefix("Fluent Bit v")
    )
