"""What was said in a conversation: to be asked on with, to be copied, and to be saved as rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepeft.data.rows import Message, Row
from edgepeft.data.written_rows import as_jsonl
from edgepeft.errors import InputError
from edgepeft.utils.whole_files import write_text
from edgepeft_tui.typed_paths import is_there, typed_path

SUFFIX = ".jsonl"
"""Of files of conversations, which are rows like any others."""


class Talk:
    """Questions and answers in turn; ``messages`` is what a model is handed, without the system message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._heads: list[str] = []

    def ask(self, text: str, voice: str) -> None:
        """Put a question, and begin the answer of ``voice``."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": ""}]
        self._heads += ["you", voice]

    @property
    def question(self) -> str:
        """What was asked last, empty where nothing was."""
        return self.messages[-2]["content"] if self.messages else ""

    @property
    def answer(self) -> str:
        """What was answered last, as far as it has come."""
        return self.messages[-1]["content"] if self.messages else ""

    def hear(self, piece: str) -> None:
        """The answer goes on."""
        self.messages[-1]["content"] += piece

    def drop(self) -> None:
        """Take the last question back; without an answer it is no part of the conversation."""
        del self.messages[-2:], self._heads[-2:]

    def clear(self) -> None:
        """Begin anew."""
        self.messages.clear()
        self._heads.clear()

    def text(self) -> str:
        """All that was said, for people."""
        turns = zip(self._heads, self.messages, strict=True)
        return "\n\n".join(f"{head}: {turn['content']}" for head, turn in turns)

    def row(self, system: str | None) -> Row | None:
        """The conversation as a row to learn from; None where nothing was answered.

        Questions at the end that got no answer are left out, and an empty answer before is not to be learned.
        """
        answered = [place for place, turn in enumerate(self.messages) if _says(turn)]
        if not answered:
            return None
        before: list[Message] = [{"role": "system", "content": system}] if system else []
        turns = (*before, *self.messages[: answered[-1] + 1])
        empty = [
            place
            for place, turn in enumerate(turns)
            if turn["role"] == "assistant" and not _says(turn)
        ]
        return Row(turns, None, "", unlearned=frozenset(empty))


def _says(turn: Message) -> bool:
    return turn["role"] == "assistant" and bool(turn["content"].strip())


def free_file(wanted: str, folder: Path) -> str:
    """The name of a file that isn't there."""
    names = [f"{wanted}{SUFFIX}", *(f"{wanted}-{number}{SUFFIX}" for number in range(2, 1000))]
    return next((name for name in names if not is_there(folder / name)), names[0])


def save(rows: Sequence[Row], folder: Path, typed: str) -> Path:
    """Write conversations, a row each, to the file that is typed, a relative one in ``folder``; where they are.

    Raises InputError for a file that is there already, has another suffix or can't be one, EdgepeftError where it
    can't be written.
    """
    typed = typed.strip()
    path = typed_path(typed, folder)
    if path is None or not typed:
        raise InputError(f"{typed or 'file'}: can't be a file; name another")
    if path.suffix != SUFFIX:
        raise InputError(f"{path.name}: rows of messages are saved as {SUFFIX}; name it so")
    if is_there(path):
        raise InputError(f"{path}: exists; name another")
    write_text(path, as_jsonl(rows))
    return path
