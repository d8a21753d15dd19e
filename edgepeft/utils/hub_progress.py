"""The progress bars of the model hub's client, on a terminal whose other text is filtered; or lines instead."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from edgepeft.utils.terminal_text import unfiltered, visible_line

_TELL: ContextVar[Callable[[str], None] | None] = ContextVar("tell", default=None)


@contextlib.contextmanager
def told_in_lines(tell: Callable[[str], None]) -> Iterator[None]:
    """No bars while the context lasts: what was downloaded is told in a line each."""
    before = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(before)


def tell_download(line: str) -> None:
    """Say what was downloaded to whoever asked for lines."""
    tell = _TELL.get()
    if tell is not None:
        tell(line)


def quiet_client(*, bars: bool = True) -> None:
    """No warnings of the hub's client between our lines, and no bars of its own unless ``bars``.

    What matters of its warnings is raised besides.
    """
    import huggingface_hub.utils as client

    client.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not bars:
        client.disable_progress_bars()  # type: ignore[attr-defined]


@contextlib.contextmanager
def upload_bars() -> Iterator[None]:
    """The client's own bars while the context lasts, where standard error is a terminal."""
    import huggingface_hub.utils as client

    if not sys.stderr.isatty():
        yield
        return
    hidden = client.are_progress_bars_disabled()  # type: ignore[attr-defined]
    client.enable_progress_bars()  # type: ignore[attr-defined]
    try:
        with contextlib.redirect_stderr(unfiltered(sys.stderr)):
            yield
    finally:
        if hidden:
            client.disable_progress_bars()  # type: ignore[attr-defined]


def hub_bars(*, hidden: bool = False) -> Any:
    """A class for ``huggingface_hub``'s ``tqdm_class``: bars that repaint a line and show a file's name as it is.

    They are hidden too where downloads are told in lines.

    Raises ImportError without huggingface_hub.
    """
    import huggingface_hub.utils

    bars: Any = huggingface_hub.utils.tqdm  # type: ignore[attr-defined]
    hidden = hidden or _TELL.get() is not None

    class Bars(bars):  # type: ignore[misc]
        def __init__(self, *args: Any, **settings: Any) -> None:
            settings.setdefault("file", unfiltered(sys.stderr))
            if hidden:
                settings["disable"] = True
            if settings.get("desc") is not None:
                settings["desc"] = visible_line(settings["desc"])
            super().__init__(*args, **settings)

    return Bars
