"""The rest of a path, or of a name, while it is being typed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from textual.suggester import Suggester

from edgepeft_tui.draft import Draft
from edgepeft_tui.path_fields import PathKind, path_kind
from edgepeft_tui.plain_text import one_to_one
from edgepeft_tui.typed_paths import typed_path


class Completing(Suggester):
    """Completes one of ``names``, else a path to what a field takes; relative ones lead from ``folder``."""

    def __init__(self, kind: PathKind, folder: Callable[[], Path]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.kind = kind
        self.names: Sequence[str] = ()
        self._folder = folder
        self._turn = asyncio.Lock()
        self._wanted = ""

    async def get_suggestion(self, value: str) -> str | None:
        """``value`` with the rest of what it is the beginning of; None where it is none."""
        if (name := nearest(value, self.names)) is not None:
            return name
        self._wanted = value
        async with self._turn:
            # On a slow disk more may have been typed while another text was looked for.
            if value != self._wanted:
                return None
            return await _apart(partial(complete_path, value, self._folder(), self.kind))


def completing(draft: Draft, key: str) -> Completing | None:
    """What completes the field of a key; None for one that holds no path."""
    kind = path_kind(key)
    return None if kind is None else Completing(kind, lambda: draft.folder)


def complete_path(text: str, folder: Path, kind: PathKind) -> str | None:
    """``text`` with the rest of the nearest path that leads to what ``kind`` is, folders ending with /.

    What is hidden is only found after a dot. The beginning stays as it was typed; None where there is nothing.
    """
    head, slash, begun = text.rpartition("/")
    place = typed_path(head + slash or ".", folder)
    if place is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        if not begun and kind.fits(place):
            return None
        with os.scandir(place) as entries:
            name = nearest(begun, _fitting(entries, begun, kind))
        return None if name is None else head + slash + name
    return None


def _fitting(entries: Iterable[os.DirEntry[str]], begun: str, kind: PathKind) -> Iterable[str]:
    for entry in entries:
        hidden = entry.name.startswith(".") and not begun.startswith(".")
        # A name that can't be shown as it is would be taken without being seen.
        if hidden or not _begins(entry.name, begun) or one_to_one(entry.name) != entry.name:
            continue
        if entry.is_dir():
            yield f"{entry.name}/"
        elif kind.fits_file(entry.name):
            yield entry.name


def nearest(begun: str, names: Iterable[str]) -> str | None:
    """The shortest of ``names`` that goes on where ``begun`` ends; one that is written alike comes first."""
    longer = [name for name in names if len(name) > len(begun) and _begins(name, begun)]
    return min(longer, key=lambda name: (not name.startswith(begun), len(name), name), default=None)


def _begins(name: str, begun: str) -> bool:
    return name[: len(begun)].casefold() == begun.casefold()


async def _apart(look: Callable[[], str | None]) -> str | None:
    """What ``look`` finds, in a thread that nobody waits for at the end: a disk may never answer."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str | None] = loop.create_future()

    def tell(result: str | None) -> None:
        if not found.done():
            found.set_result(result)

    def run() -> None:
        result = look()
        with contextlib.suppress(RuntimeError):  # the app has ended meanwhile
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, daemon=True).start()
    return await found
