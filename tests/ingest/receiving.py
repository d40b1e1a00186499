"""The gRPC receiver in a process of its own, with a real filter behind it.

``python -m tests.ingest.receiving`` prints its port. All loggers write to stderr at DEBUG, so that
a test sees whatever is said.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def main() -> None:
    """Receive until stdin is closed; tokens are wanted if there is an argument."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    from collector.contracts import Request, Tally  # noqa: PLC0415
    from collector.errors import DeliveryError  # noqa: PLC0415
    from collector.filter import Filter  # noqa: PLC0415
    from collector.ingest.auth import Tokens, hashed  # noqa: PLC0415
    from collector.ingest.grpc import Receiver  # noqa: PLC0415
    from collector.schema import load_schema  # noqa: PLC0415

    filter_ = Filter(load_schema("conferencing"))

    def accept_now(request: Request) -> Tally:
        if b"fail" in request.body:
            raise ValueError(request.body, request.user_agent)
        if b"full" in request.body:
            raise DeliveryError("E505", str(request.body))
        assert request.form in ("logs", "traces", "metrics")
        return filter_.admit_otlp(
            request.form,
            request.body,
            protobuf=True,
            peer=request.peer,
            user_agent=request.user_agent,
        ).tally

    tokens = Tokens([hashed("right")]) if sys.argv[1:] else None
    receiver = Receiver(accept_now, address="127.0.0.1:0", tokens=tokens, hops=1)
    print(receiver.start(), flush=True)
    sys.stdin.read()
    receiver.stop(5)


@contextmanager
def receiving(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[int, int]]:
    """The port and the process of a receiver; what it prints lies in the folder afterwards."""
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-m", "tests.ingest.receiving", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={k: v for k, v in os.environ.items() if not k.startswith("GRPC")} | environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.stdin.close()
            (folder / "stdout").write_bytes(process.stdout.read())
            process.stdout.close()
            assert process.wait(30) == 0


if __name__ == "__main__":
    main()
