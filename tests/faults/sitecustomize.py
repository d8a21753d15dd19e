"""Makes the n-th operation on files below a folder fail, or kills the process there.

Python imports this by itself in every process whose path has this folder, so a command's stages are reached
too. EDGEPEFT_TEST_FAULT is ``KIND:N:WHAT``: a kind of operation (``create``, ``fsync``, ``rename`` or ``any``),
which one counted from 1 in each process, and an error's name such as ENOSPC, or ``kill``.
EDGEPEFT_TEST_FAULT_BELOW is the folder; a file of the name in EDGEPEFT_TEST_FAULT_MARK says afterwards that the
fault has happened.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = set("wax+")


class Fault:
    """One planned fault; ``install`` puts it into this process and returns what undoes that."""

    def __init__(self, kind: str, number: int, what: str, below: Path, mark: Path) -> None:
        self._kind, self._number, self._what = kind, number, what
        self._below, self._mark = os.path.realpath(below), mark
        self._seen = 0

    @classmethod
    def planned(cls) -> Fault | None:
        """The fault that the environment asks for."""
        spec = os.environ.get("EDGEPEFT_TEST_FAULT")
        if not spec:
            return None
        kind, number, what = spec.split(":")
        below, mark = (os.environ[f"EDGEPEFT_TEST_FAULT_{key}"] for key in ("BELOW", "MARK"))
        return cls(kind, int(number), what, Path(below), Path(mark))

    def install(self) -> Callable[[], None]:
        """Wrap the operations of ``os`` and ``open``."""
        before = [(place, name, getattr(place, name)) for place, name in self._places()]
        for place, name, original in before:
            setattr(place, name, self._wrapped(name, original))

        def undo() -> None:
            for place, name, original in before:
                setattr(place, name, original)

        return undo

    def _places(self) -> list[tuple[Any, str]]:
        os_names = ("open", "fsync", "replace", "rename")
        return [*((os, name) for name in os_names), (io, "open"), (builtins, "open")]

    def _wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            kind = self._kind_of(name, args, kwargs)
            if kind is not None and self._kind in (kind, "any"):
                self._count(args[0])
            return original(*args, **kwargs)

        return call

    def _kind_of(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        if name == "open":
            how = args[1] if len(args) > 1 else kwargs.get("mode", "r")
            creates = how & os.O_CREAT if isinstance(how, int) else _WRITING & set(how)
            return "create" if creates else None
        return "fsync" if name == "fsync" else "rename"

    def _count(self, place: Any) -> None:
        path = os.path.realpath(f"/proc/self/fd/{place}" if isinstance(place, int) else place)
        if not path.startswith(self._below + os.sep):
            return
        self._seen += 1
        if self._seen != self._number:
            return
        self._mark.touch()
        if self._what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self._what)
        raise OSError(number, os.strerror(number), path)


if (_fault := Fault.planned()) is not None:
    _fault.install()
