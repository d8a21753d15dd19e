"""The user's folders for edgepeft: what is remembered between commands, what can be made again, and settings."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import tempfile
from pathlib import Path


def state_folder() -> Path:
    """Where edgepeft remembers things between commands (``EDGEPEFT_STATE`` or the XDG place)."""
    return _folder("EDGEPEFT_STATE", "XDG_STATE_HOME", ".local/state")


def cache_folder() -> Path:
    """Where edgepeft keeps what it can make again (``EDGEPEFT_CACHE`` or the XDG place)."""
    return _folder("EDGEPEFT_CACHE", "XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """Where the user may keep what edgepeft only reads (the XDG place)."""
    return _folder(None, "XDG_CONFIG_HOME", ".config")


def library_places() -> dict[str, str]:
    """Environment variables for libraries that would fail where the home can't be written; empty where it can."""
    home = os.environ.get("HOME")
    if not home or os.access(home, os.W_OK):
        return {}
    # Intel's neural compressor, which PEFT imports where it is installed, opens a log in the home.
    return {"HABANA_LOGS": os.environ.get("HABANA_LOGS") or str(_homeless() / "logs")}


def _folder(own: str | None, shared: str, below_home: str) -> Path:
    if own is not None and (named := os.environ.get(own)):
        return Path(named)
    # A relative path would mean another place in every folder; the XDG specification has it ignored.
    above = os.environ.get(shared, "")
    if above and Path(above).is_absolute():
        return Path(above) / "edgepeft"
    try:
        return Path.home() / below_home / "edgepeft"
    except RuntimeError:
        # A container may run as a user that no table lists.
        return _homeless() / below_home / "edgepeft"


@functools.cache
def _homeless() -> Path:
    """A folder of the user's own among the temporary files; another user may have taken its name before."""
    folder = Path(tempfile.gettempdir()) / f"edgepeft-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="edgepeft-"))
