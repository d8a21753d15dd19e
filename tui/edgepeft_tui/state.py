"""What the wizard remembers between sessions: the draft, the theme, models lately used; and the user's keys."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError
from edgepeft.runs.folder import write_json
from edgepeft.runs.index import state_folder
from edgepeft.utils.files import read_text_file
from edgepeft.utils.scalars import TEXT_BYTES, TextProblem
from edgepeft.utils.user_folders import config_folder
from edgepeft.utils.yaml_text import read_yaml
from edgepeft_tui.run_files import Damaged, read_json

FILE = "tui.json"


class State:
    """A small JSON file in the user's state folder; one that is damaged or can't be written is no error.

    ``damaged`` is why it could not be used, empty where it could.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or state_folder()
        self.damaged = ""
        self._values: dict[str, Any] = {}
        try:
            read = read_json(self.folder / FILE)
        except FileNotFoundError:
            return
        except Damaged as error:
            self.damaged = str(error)
            return
        if isinstance(read, dict):
            self._values = read
        else:
            self.damaged = f"{FILE}: is not a mapping"

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or ``default``."""
        return self._values.get(name, default)

    def put(self, name: str, value: Any) -> None:
        """Keep a value at once: the terminal may be gone in a moment."""
        if self._values.get(name) == value:
            return
        self._values[name] = value
        with contextlib.suppress(Exception):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Written at every key press in a form, which can't wait for a disk.
            write_json(self.folder / FILE, self._values, durable=False)


def keymap_file() -> Path:
    """Where a user may say which keys do what."""
    return config_folder() / "keymap.yaml"


def read_keymap(known: set[str]) -> dict[str, str]:
    """Action to key from the user's file, empty without one. Raises InputError naming the file and the action."""
    path = keymap_file()
    try:
        read = read_yaml(read_text_file(path, TEXT_BYTES)) or {}
    except FileNotFoundError:
        return {}
    except TextProblem as problem:
        raise InputError(f"{path}: {problem}") from None
    if not isinstance(read, dict):
        raise InputError(f"{path}: should be a mapping such as {{home.new: f9}}")
    for action in read:
        if action not in known:
            raise InputError(
                f"{path}: {action}: no such action; choose from {', '.join(sorted(known))}"
            )
    return {str(action): str(key) for action, key in read.items()}
