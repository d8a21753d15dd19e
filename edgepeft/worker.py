"""One stage in a process of its own: ``python -m edgepeft.worker``, started by the pipeline.

Memory comes back when the process ends, and what libraries do to the interpreter stays here. The job arrives as
one line of JSON on standard input; the pipe stays open, and its end means that the parent is gone. Events leave
as JSON lines on the file descriptor named in the job; standard output and error belong to the stage's log.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from edgepeft.errors import EXIT_FAILED, EXIT_INTERRUPTED, EdgepeftError, one_line
from edgepeft.events import Event, Events
from edgepeft.stage import Job, StageFunction
from edgepeft.workspace import writing_failed


def load_function(reference: str) -> StageFunction:
    """Import ``package.module:function``."""
    module, _, name = reference.partition(":")
    function: StageFunction = getattr(importlib.import_module(module), name)
    return function


def peak_memory_bytes() -> int:
    """Largest resident set of this process so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def main() -> int:
    """Run the job, tell how it ended, return the exit status."""
    request = json.loads(sys.stdin.readline())
    lock = threading.Lock()
    channel = os.fdopen(request["events_fd"], "w", buffering=1)

    def send(event: Event) -> None:
        with lock:
            channel.write(json.dumps(event) + "\n")

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    job = Job(
        settings=request["settings"],
        inputs={name: Path(path) for name, path in request["inputs"].items()},
        out=Path(request["out"]),
        scratch=Path(request["scratch"]),
        events=Events(request["stage"], send),
    )
    status: int
    fields: dict[str, Any]
    try:
        result = load_function(request["function"])(job)
        status, fields = 0, {"result": result}
    except KeyboardInterrupt:
        status, fields = EXIT_INTERRUPTED, {"error": "interrupted"}
    except EdgepeftError as error:
        status, fields = error.exit_status, {"error": str(error)}
    except OSError as error:
        traceback.print_exc()
        status, fields = EXIT_FAILED, {"error": str(writing_failed(job.out, error))}
    except MemoryError:
        traceback.print_exc()
        status, fields = EXIT_FAILED, {"error": "out of memory"}
    except Exception as error:
        traceback.print_exc()
        kind = type(error).__name__
        status, fields = EXIT_FAILED, {"error": f"{kind}: {one_line(error)}", "unexpected": True}
    send(
        {
            "event": "ended",
            "stage": request["stage"],
            "status": status,
            "seconds": time.monotonic() - started,
            "peak_memory_bytes": peak_memory_bytes(),
            **fields,
        }
    )
    channel.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # A library's worker threads must not keep a finished stage alive.
    os._exit(status)


def _leave_with_parent() -> None:
    """End this process when the parent's end of the pipe closes: a killed build must not write on."""
    sys.stdin.read()
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
