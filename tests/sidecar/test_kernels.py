"""Kernels that cannot confine workers: with `required` the sidecar does not start; with `auto` it
starts and says so.

A filter that is set before the program starts simulates such a kernel: it answers a system call as
unknown.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from collector.claims.document import load_claims
from collector.sandbox import landlock, seccomp, support
from tests.conftest import required
from tests.sandbox.test_seccomp import WITHOUT
from tests.support.deadline import WAIT_SECONDS
from tests.support.sidecar import FREE_PORTS, started

_EVENT = b'{"ip_address": "203.0.113.7"}\n'
_KERNELS = {
    "no Landlock": ("landlock_create_ruleset", errno.ENOSYS, "Landlock"),
    "Landlock is off": ("landlock_create_ruleset", errno.EOPNOTSUPP, "Landlock"),
    "no seccomp": ("seccomp", errno.ENOSYS, "seccomp filters"),
    "a container without seccomp": ("seccomp", errno.EPERM, "seccomp filters"),
    "Landlock that fails": ("landlock_restrict_self", errno.EPERM, "did not let a worker confine"),
}
_FIRST, *_OTHERS = _KERNELS
_each_kernel = pytest.mark.parametrize(
    "kernel", [_FIRST, *(pytest.param(each, marks=pytest.mark.long) for each in _OTHERS)]
)


@pytest.fixture(autouse=True)
def _kernel() -> None:
    if lacks := support().lacks:
        required(" and ".join(lacks))


def _command(kernel: str) -> list[str]:
    """Collector's command line on such a kernel."""
    call, error, _ = _KERNELS[kernel]
    number = {**landlock._CALLS, **seccomp._SECCOMP}[call]
    text = f"""
    answer({number}, {error})
    import sys
    os.execv(sys.executable, [sys.executable, "-m", "collector", *sys.argv[1:]])
    """
    return [sys.executable, "-c", WITHOUT + dedent(text)]


def _run(
    kernel: str, *words: str, environ: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_command(kernel), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        cwd=folder,
        env={**os.environ, **FREE_PORTS, **environ},
    )


@pytest.mark.long
@_each_kernel
def test_required(kernel: str, tmp_path: Path) -> None:
    """It exits with 78 and says what is missing; nothing is received."""
    done = _run(kernel, "serve", environ={"COLLECTOR__SANDBOX": "required"}, folder=tmp_path)
    assert done.returncode == 78
    assert "[E217]" in done.stderr
    assert _KERNELS[kernel][2] in done.stderr
    assert '"started"' not in done.stderr


@pytest.mark.long
@_each_kernel
def test_auto(kernel: str, tmp_path: Path) -> None:
    """It receives. The log says once that it is unconfined, and readiness says so."""
    with started(tmp_path, command=[*_command(kernel), "serve"]) as sidecar:
        assert sidecar.send(_EVENT).status == 200
        said = sidecar.admin("/readyz?verbose")
        assert (said.status, b"[!] sandbox late\n" in said.body) == (200, True)
        assert sidecar.stop()[0] == 0
    assert [each["event"] for each in sidecar.events].count("unconfined") == 1


@_each_kernel
def test_the_claim_is_unproven(kernel: str, tmp_path: Path) -> None:
    """The verdict says why. Claims that need no sandbox hold."""
    done = _run(
        kernel,
        *("claims", "--verify", "--json"),
        environ={"COLLECTOR__DATA": str(tmp_path / "data")},
        folder=tmp_path,
    )
    told = json.loads(done.stdout)
    (why,) = told["checks"]["sandbox"]
    assert "kernel" in why
    verdicts = {each["id"]: each["verdict"] for each in told["claims"]}
    needs = {name for name, claim in load_claims().items() if "sandbox" in claim.checks}
    assert {name for name, verdict in verdicts.items() if verdict == "unproven"} == needs
    assert set(verdicts.values()) == {"unproven", "holds"}
    assert done.returncode == 1
