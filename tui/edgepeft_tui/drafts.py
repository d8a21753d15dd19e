"""The drafts that are kept between sessions: recipes begun and not built yet, each in a file of its own."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError
from edgepeft.runs.folder import write_json
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import as_json, from_json
from edgepeft_tui.plain_text import visible_line
from edgepeft_tui.run_files import Damaged, read_json
from edgepeft_tui.state import State


class Drafts:
    """The drafts in the user's state folder. Two wizards at once lose none of one another's.

    ``damaged`` says of each file that can't be used why it is left out.
    """

    def __init__(self, state: State) -> None:
        self._folder = state.folder / "drafts"
        self._written: dict[str, dict[str, Any]] = {}
        self._gone: set[str] = set()
        self.damaged: list[str] = []
        self._take_up(state)
        self.kept()

    def _take_up(self, state: State) -> None:
        """Earlier versions kept one draft, among the rest of the state, and its step beside it."""
        if (kept := state.get("draft")) is None:
            return
        try:
            draft = from_json(kept)
        except InputError:
            self.damaged.append("The saved draft is damaged and was left out.")
            return
        draft = from_json({**as_json(draft), "step": str(state.get("step"))})
        self.keep(draft)
        if self._file(draft).is_file():
            state.put("draft", None)

    def begin(self, draft: Draft) -> None:
        """Note what a draft is when it is opened: a form that was only looked at is nobody's work."""
        draft.begun = _work(draft)

    def keep(self, draft: Draft) -> None:
        """Remember a draft as it is now, beyond the end of this process, if it can be written."""
        if not draft.kept_as and _work(draft) == draft.begun:
            return
        draft.kept_as = draft.kept_as or uuid.uuid4().hex
        form = as_json(draft)
        # A form that is being closed may still tell of its last key.
        if draft.kept_as in self._gone or self._written.get(draft.kept_as) == form:
            return
        self._written[draft.kept_as] = form
        with contextlib.suppress(Exception):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Written at every key press in a form, which can't wait for a disk.
            write_json(self._file(draft), form, durable=False)

    def kept(self) -> list[Draft]:
        """The drafts, that worked on last first."""
        found = []
        for path in sorted(self._folder.glob("*.json"), key=_changed, reverse=True):
            try:
                draft = from_json(read_json(path))
            except FileNotFoundError:
                continue
            except (InputError, Damaged):
                said = f"drafts/{visible_line(path.name)}: the draft is damaged and was left out"
                if said not in self.damaged:
                    self.damaged.append(said)
                continue
            draft.kept_as = path.stem
            found.append(draft)
        return found

    def find(self, kept_as: str = "") -> Draft | None:
        """A draft by what it is kept as, the one worked on last by default; None where there is none."""
        return next((one for one in self.kept() if kept_as in ("", one.kept_as)), None)

    def names(self) -> set[str]:
        """The names of their recipes."""
        return {draft.name for draft in self.kept()}

    def moment(self, draft: Draft) -> float:
        """When it was worked on last, 0 where nobody knows."""
        return _changed(self._file(draft))

    def discard(self, draft: Draft) -> None:
        """Forget a draft; the recipe that it was saved as stays."""
        with contextlib.suppress(OSError):
            self._file(draft).unlink(missing_ok=True)
        draft.kept_as = draft.kept_as or uuid.uuid4().hex
        self._gone.add(draft.kept_as)

    def _file(self, draft: Draft) -> Path:
        return self._folder / f"{draft.kept_as}.json"


def _work(draft: Draft) -> dict[str, Any]:
    return {"folder": str(draft.folder), "name": draft.name, "raw": draft.clean()}


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
