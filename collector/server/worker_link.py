"""A worker as the keeper sees it: its process, its channel, and its last report."""

from __future__ import annotations

import asyncio
from operator import ge
from time import monotonic

from collector.server.channel import BatchCode, Channel, Frames
from collector.server.messages import FromWorker, Report
from collector.server.worker_process import WorkerProcess
from collector.server.worker_setup import WorkerPlan


class WorkerLink:
    """A worker as the keeper sees it, and its plan."""

    def __init__(
        self,
        process: WorkerProcess,
        frames: Frames[FromWorker],
        plan: WorkerPlan,
        code: BatchCode,
    ) -> None:
        self.process: WorkerProcess = process
        self.frames: Frames[FromWorker] = frames
        self.plan: WorkerPlan = plan
        self.code: BatchCode = code
        self.channel: Channel[FromWorker]
        self.began: float = monotonic()
        self.is_ready: bool = False
        self.is_confined: bool = False
        self.is_distrusted: bool = False
        self.is_retired: bool = False
        self.report: Report | None = None
        self.reported: asyncio.Future[None] | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def takes(self, report: Report) -> bool:
        """Take the worker's counters; return false if one of them has fallen."""
        before = self.report
        rises = before is None or (
            report.unhashed >= before.unhashed
            and all(map(ge, report.requests, before.requests))
            and all(map(ge, report.seconds, before.seconds))
            and all(map(ge, report.refusals, before.refusals))
        )
        self.report = report if rises else before
        return rises
