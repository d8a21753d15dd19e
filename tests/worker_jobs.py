"""Stage functions for tests of the processes that carry stages out."""

from __future__ import annotations

import os
import signal
import time

from pydantic import ConfigDict

from edgepeft.errors import GateError
from edgepeft.stages.job import Job, StageResult, StageSettings


class Said(StageResult):
    """Whatever a job has to say."""

    model_config = ConfigDict(extra="allow", frozen=True)


def tell(job: Job[StageSettings]) -> Said:
    """Its own process and its parent's, and how many jobs this process has seen."""
    os.environ["SEEN"] = str(int(os.environ.get("SEEN", "0")) + 1)
    said = {"pid": os.getpid(), "parent": os.getppid(), "seen": os.environ["SEEN"]}
    return Said.model_validate(said)


def killed(job: Job[StageSettings]) -> Said:
    """Die as the kernel kills a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive")


def gate(job: Job[StageSettings]) -> Said:
    """Fail as a stage does."""
    raise GateError("missed by much")


def patient(job: Job[StageSettings]) -> Said:
    """Wait to be interrupted."""
    job.events.emit("ready", pid=os.getpid())
    time.sleep(60)
    raise AssertionError("nobody interrupted")


def stubborn(job: Job[StageSettings]) -> Said:
    """Wait, and not let itself be interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return patient(job)


def threads(job: Job[StageSettings]) -> Said:
    """How many threads it was told to compute with, and how many torch takes."""
    import torch

    from edgepeft.utils.threads import threads_of_stage

    return Said.model_validate({"told": threads_of_stage(), "torch": torch.get_num_threads()})
