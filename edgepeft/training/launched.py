"""One of several processes that train together: ``accelerate launch … -m edgepeft.training.launched REQUEST``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from edgepeft.compat.bitsandbytes_eager import import_without_compiler
from edgepeft.errors import EXIT_INTERRUPTED
from edgepeft.events import Event, Events, discard
from edgepeft.stages.job import Job
from edgepeft.stages.worker import ending
from edgepeft.training.callbacks import StopRequest
from edgepeft.training.launching import STOP
from edgepeft.training.ranks import Ranks
from edgepeft.training.settings import TrainResult, TrainSettings


def main(path: Path) -> int:
    """Train as the request in ``path`` says; the exit status."""
    # Stops come from who started the training, in words; a signal is the launcher's, which ends what is left.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    request = json.loads(path.read_text(encoding="utf-8"))
    ranks = Ranks.launched()
    stop = StopRequest()
    channel = _Channel.open(Path(request["socket"]), request["host"], stop)
    job = Job(
        settings=TrainSettings.model_validate(request["settings"]),
        inputs={name: Path(place) for name, place in request["inputs"].items()},
        out=Path(request["out"]),
        scratch=Path(request["scratch"]),
        events=Events(request["stage"], channel.send if channel and ranks.first else discard),
    )
    status: int
    fields: dict[str, Any]
    try:
        status, fields = 0, {"result": _train(job, ranks, stop).as_dict()}
    except BaseException as error:
        status, fields = ending(error, job.out)
    if channel is not None:
        channel.send({"event": "ended", "rank": ranks.index, "status": status, **fields})
    # An interrupted training is whole; the launcher would make a failure of any other status.
    return 0 if status in (0, EXIT_INTERRUPTED) else status


def _train(job: Job[TrainSettings], ranks: Ranks, stop: StopRequest) -> TrainResult:
    import_without_compiler()
    import torch

    from edgepeft.training.stage import train

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return train(job, stop, ranks)


class _Channel:
    """The connection to who started the training; what closes it ends this process."""

    def __init__(self, connection: socket.socket, stop: StopRequest) -> None:
        self._connection = connection
        self._stop = stop
        self._turn = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    @classmethod
    def open(cls, place: Path, host: str, stop: StopRequest) -> _Channel | None:
        """Connect; None on another host than that of the socket. Raises OSError once the socket is gone."""
        if socket.gethostname() != host:
            return None
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(place))
        return cls(connection, stop)

    def send(self, event: Event) -> None:
        with self._turn, contextlib.suppress(BrokenPipeError):
            self._connection.sendall(json.dumps(event).encode() + b"\n")

    def _listen(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            while line := self._connection.recv(len(STOP)):
                if line == STOP:
                    self._stop.requested = True
        os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # A library's worker threads, or a process that waits for one that failed, must not hold this one.
    os._exit(code)
