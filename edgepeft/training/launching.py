"""A training in several processes: started through ``accelerate launch``, heard, stopped, gone when it should be.

Each process connects to a socket of this one. The first sends its events and how it ended; all of them are told
to stop by a line, and leave when the socket closes. So nothing has to be guessed of the launcher's signals.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from edgepeft.errors import ERROR_CLASSES, EXIT_INTERRUPTED, EdgepeftError, MissingError
from edgepeft.stages.job import Job
from edgepeft.training.callbacks import StopRequest
from edgepeft.training.hosts import hosts_of
from edgepeft.training.settings import TrainResult, TrainSettings
from edgepeft.utils.threads import chosen_threads

_LOOK_SECONDS = 0.2
STOP = b"stop\n"
"""What the processes are sent to have them save a checkpoint and end."""


def launch(job: Job[TrainSettings]) -> TrainResult:
    """Carry out the train stage in ``training.processes`` processes; returns its result.

    Raises what the training raises, MissingError where there are fewer GPUs than processes here,
    KeyboardInterrupt once a stop has been obeyed.
    """
    stop = StopRequest()
    stop.listen()
    job.scratch.mkdir(parents=True, exist_ok=True)
    config = job.settings.training.accelerate_config
    machines = hosts_of(Path(config) if config is not None else None)
    _check_devices(job.settings.training.processes // machines)
    # A socket's path must be short, which that of a user's own temporary folder need not be.
    short = "/tmp" if Path("/tmp").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="edgepeft-", dir=short) as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        place = Path(folder) / "events"
        listener.bind(str(place))
        listener.listen()
        request = job.scratch / "launch.json"
        request.write_text(json.dumps(_request(job, place)), encoding="utf-8")
        arguments = _arguments(job, machines)
        if machines > 1:
            _tell_hosts(job, machines, arguments, request)
        with subprocess.Popen(
            _command([*arguments, "--machine_rank", "0"], request),
            stdin=subprocess.DEVNULL,
            # A folder where somebody happens to stand must not shadow a library.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            preexec_fn=_end_with_parent,
        ) as launcher:
            try:
                ended = _follow(job, listener, launcher, stop)
            except BaseException:
                launcher.kill()
                raise
    result = _result(ended, launcher.returncode)
    shutil.rmtree(job.scratch, ignore_errors=True)
    return TrainResult.model_validate(result)


_C = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Have Linux kill the launcher with this process (prctl(2)): it may wait for other hosts for long."""
    if sys.platform == "linux":
        _C.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _check_devices(here: int) -> None:
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < here:
        raise MissingError(
            f"training.processes: {here} on this machine, which has {torch.cuda.device_count()} GPUs"
        )


def _request(job: Job[TrainSettings], place: Path) -> dict[str, Any]:
    return {
        "stage": job.events.stage,
        "settings": job.settings.model_dump(mode="json"),
        "inputs": {name: str(path) for name, path in job.inputs.items()},
        "out": str(job.out),
        "scratch": str(job.scratch),
        "socket": str(place),
        "host": socket.gethostname(),
    }


def _arguments(job: Job[TrainSettings], machines: int) -> list[str]:
    """Arguments of ``accelerate launch``, those that differ from host to host aside."""
    processes = job.settings.training.processes
    config = job.settings.training.accelerate_config
    if config is None:
        # Without a file of ours the user's own default would be taken, whatever it was made for.
        config = str(job.scratch / "accelerate.yaml")
        Path(config).write_text(
            yaml.safe_dump(
                {
                    "compute_environment": "LOCAL_MACHINE",
                    "distributed_type": "MULTI_GPU",
                    "gpu_ids": "all",
                    "num_machines": 1,
                    "main_process_port": 0,
                    "use_cpu": False,
                }
            ),
            encoding="utf-8",
        )
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() else chosen_threads()
    threads = max(1, cores // max(1, processes // machines))
    return [
        *("--config_file", config),
        # The launcher's word for processes of any device; without GPUs they talk through gloo.
        "--multi_gpu",
        *("--num_processes", str(processes)),
        *("--num_cpu_threads_per_process", str(threads)),
        # The trainer's own arguments say in which precision to compute.
        *("--mixed_precision", "no"),
        *("--dynamo_backend", "no"),
    ]


def _command(arguments: list[str], request: Path) -> list[str]:
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    return [*launcher, *arguments, "-m", "edgepeft.training.launched", str(request)]


def _tell_hosts(
    job: Job[TrainSettings], machines: int, arguments: list[str], request: Path
) -> None:
    """Say what the other hosts have to start; they read the same files."""
    for rank in range(1, machines):
        ours = [*arguments, "--machine_rank", str(rank)]
        command = shlex.join(
            ["accelerate", "launch", *ours, "-m", "edgepeft.training.launched", str(request)]
        )
        job.events.message(f"waiting for host {rank} of {machines - 1}; start there: {command}")


def _follow(
    job: Job[TrainSettings],
    listener: socket.socket,
    launcher: subprocess.Popen[bytes],
    stop: StopRequest,
) -> list[dict[str, Any]]:
    """Pass on what the processes say until the launcher has ended; returns how they said they ended."""
    listener.setblocking(False)
    ended: list[dict[str, Any]] = []
    rest: dict[socket.socket, bytes] = {}
    told = False
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        try:
            while launcher.poll() is None or rest:
                if stop.requested and not told:
                    told = True
                    if not rest:
                        # Nothing has been trained: the processes, or other hosts, are waited for still.
                        raise KeyboardInterrupt
                    for connection in rest:
                        _send_stop(connection)
                for key, _ in selector.select(_LOOK_SECONDS):
                    if key.fileobj is listener:
                        connection, _ = listener.accept()
                        rest[connection] = b""
                        selector.register(connection, selectors.EVENT_READ)
                        if told:
                            _send_stop(connection)
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    connection = key.fileobj
                    read = _receive(connection)
                    *lines, rest[connection] = (rest[connection] + read).split(b"\n")
                    for line in lines:
                        _hear(json.loads(line), job, ended)
                    if not read:
                        selector.unregister(connection)
                        connection.close()
                        del rest[connection]
        finally:
            for connection in rest:
                connection.close()
    return ended


def _receive(connection: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1 << 16)
    return b""


def _send_stop(connection: socket.socket) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(STOP)


def _hear(event: dict[str, Any], job: Job[TrainSettings], ended: list[dict[str, Any]]) -> None:
    if event["event"] == "ended":
        ended.append(event)
        return
    fields = {key: value for key, value in event.items() if key not in ("event", "stage")}
    job.events.emit(event["event"], **fields)


def _result(ended: list[dict[str, Any]], code: int) -> dict[str, Any]:
    """The first process' result. Raises what any of them met."""
    wrong = [event for event in ended if event["status"] not in (0, EXIT_INTERRUPTED)]
    if wrong:
        kind = ERROR_CLASSES.get(wrong[0]["status"], EdgepeftError)
        if wrong[0].get("unexpected"):
            raise RuntimeError(wrong[0]["error"])
        raise kind(wrong[0]["error"])
    if any(event["status"] == EXIT_INTERRUPTED for event in ended):
        raise KeyboardInterrupt
    results: list[dict[str, Any]] = [event["result"] for event in ended if event["rank"] == 0]
    if not results or code != 0:
        raise RuntimeError(f"the processes that train ended without a result (status {code})")
    return results[0]
