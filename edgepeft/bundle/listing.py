"""Files in a bundle that its manifest does not list: nobody vouches for them, so nobody may read them.

Runtimes look for files by name: a tokenizer takes a special_tokens_map.json that lies beside it,
onnxruntime-genai a processor's configuration, transformers.js another precision's graph. Which names those are
changes with every version of theirs, so what may lie in a bundle unlisted is what no runtime reads: text for
people and hidden files.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from edgepeft.bundle.files import DISTRUST
from edgepeft.errors import InputError

MOST_ENTRIES = 100_000
"""Files and folders of a bundle that are looked through, hidden ones too."""
_FOR_PEOPLE = frozenset(
    (
        ".md",
        ".txt",
        ".rst",
        ".html",
        ".pdf",
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".svg",
        ".csv",
        ".log",
    )
)
_READ_ALL_THE_SAME = frozenset(("vocab.txt", "merges.txt", "added_tokens.txt"))
_OURS = frozenset(("fidelity.json",))
"""Reports of ours that no runtime reads; a build writes them shortly before the manifest lists them."""


def unlisted(
    root: Path, listed: Collection[str], *, besides: Collection[str] = ()
) -> Iterator[str]:
    """Paths below ``root`` that are not ``listed``, links and pipes included, as the system gives them.

    Names at the top among ``besides`` are left aside, folders with all they hold. Raises InputError for a folder
    that can't be read, or of more entries than any bundle has.
    """
    return (name for name, _ in _unlisted(root, listed, besides))


def _unlisted(
    root: Path, listed: Collection[str], besides: Collection[str]
) -> Iterator[tuple[str, bool]]:
    """The same with whether each is a regular file."""
    pending, seen = [""], 0
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{root / folder}: cannot be read ({error.strerror})") from None
        seen += len(entries)
        if seen > MOST_ENTRIES:
            raise InputError(f"{root}: holds more than {MOST_ENTRIES} files; {DISTRUST}")
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if name in besides:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(name)
            elif name not in listed:
                yield name, entry.is_file(follow_symlinks=False)


def refuse_strays(root: Path, listed: Collection[str], *, besides: Collection[str] = ()) -> None:
    """Raise InputError for an unlisted file that a runtime might read, and for what is no regular file."""
    for name, regular in _unlisted(root, listed, besides):
        if not (regular and _is_inert(name)):
            raise InputError(_message(root, [name]))


def refuse_unlisted(root: Path, names: Collection[str]) -> None:
    """Raise InputError that names all of ``names``, files that the manifest does not list."""
    if names:
        raise InputError(_message(root, sorted(names)))


def _is_inert(name: str) -> bool:
    *folders, last = name.lower().split("/")
    if any(part.startswith(".") for part in (*folders, last)):
        return True
    if last in _READ_ALL_THE_SAME:
        return False
    suffix = os.path.splitext(last)[1]  # noqa: PTH122 (a name that is no path of this system)
    return last in _OURS or suffix in _FOR_PEOPLE or not suffix


def _message(root: Path, names: list[str]) -> str:
    shown = [name if name.isprintable() else repr(name) for name in names[:5]]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    verb, them = ("is", "it") if len(names) == 1 else ("are", "them")
    return (
        f"{root}: {', '.join(shown)}{more} {verb} not listed in its manifest; take {them} out of the folder, or "
        f"{DISTRUST}"
    )
