"""lm_eval and the libraries under it, kept from standard output and from drawing bars of their own."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping

from edgepeft.errors import one_line
from edgepeft.utils.hub_progress import quiet_client

_ENVIRONMENT: Mapping[str, str] = {
    "TQDM_DISABLE": "1",
    # Resampling forks a process for each core, whatever threads onnxruntime has.
    "DISABLE_MULTIPROC": "1",
}


@contextlib.contextmanager
def quiet(warn: Callable[[str], None]) -> Iterator[None]:
    """What is printed goes to standard error, lm_eval's warnings to ``warn``, each once, while it lasts.

    tqdm reads its switch when it is imported, so this comes before lm_eval.
    """
    with contextlib.redirect_stdout(sys.stderr), _environment(), _warnings(warn):
        quiet_client(bars=False)
        import datasets

        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        yield


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _warnings(warn: Callable[[str], None]) -> Iterator[None]:
    logger = logging.getLogger("lm_eval")
    handler = _Once(warn)
    passed_on, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = passed_on


class _Once(logging.Handler):
    """Passes each warning on once: lm_eval says some of them for every row."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = one_line(record.getMessage())
        if line not in self._said:
            self._said.add(line)
            self._warn(line)
