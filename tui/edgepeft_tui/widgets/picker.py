"""A window to pick a file or a folder in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text, TextType
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import DirectoryTree, Input, Static

from edgepeft_tui.completing import Completing
from edgepeft_tui.path_fields import PathKind
from edgepeft_tui.plain_text import plain_line, title, visible_line
from edgepeft_tui.typed_paths import existing_path, is_there
from edgepeft_tui.widgets.entry import Entry


class _Tree(DirectoryTree):
    """A tree that shows folders and the files of some kinds, nothing hidden.

    Of its own folder it shows the entries whose names contain a text, all of them at first.
    """

    def __init__(self, path: Path, kind: PathKind) -> None:
        self._kind = kind
        self._wanted = self._shown = ""
        self._turn = asyncio.Lock()
        super().__init__(path)

    def process_label(self, label: TextType) -> Text:
        """A file's name as it is, not as markup."""
        return super().process_label(Text(visible_line(label)))

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """Folders, and files that may be picked."""
        top, wanted = Path(self.path).resolve(), self._shown
        return [
            path
            for path in paths
            if not path.name.startswith(".")
            and (path.parent != top or wanted in path.name.casefold())
            and (path.is_dir() or self._kind.fits_file(path.name))
        ]

    async def narrow(self, text: str) -> None:
        """Show what contains ``text``, the cursor on the first of it."""
        self._wanted = text.strip().casefold()
        async with self._turn:
            # What was typed while the folder was read is looked for at once.
            if self._shown != self._wanted:
                self._shown = self._wanted
                await self.reload()
                self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        if self.root.children:
            self.move_cursor(self.root.children[0])

    def open_folder(self, path: Path) -> None:
        """Show all of another folder."""
        self._wanted = self._shown = ""
        self.path = path

    async def first(self) -> Path | None:
        """What the cursor is on, else the first entry, once what is wanted is shown; None where nothing is."""
        async with self._turn:
            node = self.cursor_node
            if node is None or node.tree is not self or node.is_root:
                node = next(iter(self.root.children), None)
            return node.data.path if node is not None and node.data is not None else None


class Picker(ModalScreen[Path | None]):
    """A tree of folders and files to pick from, a line for another place, and one that narrows the tree."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("ctrl+s", "pick", "Take this"),
        Binding("ctrl+u", "up", "Parent folder"),
        Binding("up", "walk(-1)", "Up", show=False),
        Binding("down", "walk(1)", "Down", show=False),
    ]

    def __init__(self, title: str, start: Path, kind: PathKind) -> None:
        """``kind`` says what can be taken."""
        super().__init__()
        self._title, self._kind = title, kind
        self._start = start if start.is_dir() else start.parent

    def compose(self) -> ComposeResult:
        """Where, what of it, the tree, what is chosen."""
        with Vertical(classes="window picker") as window:
            window.border_title = title(self._title)
            window.border_subtitle = (
                "Enter opens or takes · Ctrl+S takes the folder · Ctrl+U up · Esc"
            )
            completing = Completing(self._kind, lambda: self._start)
            yield Entry(str(self._start), id="place", suggester=completing)
            yield Entry(placeholder="type to narrow the list", id="narrow")
            yield _Tree(self._start, self._kind)
            yield Static("", id="chosen")

    def on_mount(self) -> None:
        """Begin in the tree."""
        self.query_one(_Tree).focus()

    # -- narrowing ----------------------------------------------------------------------------------------

    def on_key(self, event: Key) -> None:
        """What is typed into the tree narrows it."""
        if event.is_printable and event.character != " " and self.query_one(_Tree).has_focus:
            event.stop()
            narrow = self.query_one("#narrow", Entry)
            narrow.focus()
            narrow.insert_text_at_cursor(event.character or "")

    @on(Input.Changed, "#narrow")
    def _narrow(self, event: Input.Changed) -> None:
        self.query_one("#chosen", Static).update("")
        self._read(event.value)

    @work
    async def _read(self, text: str) -> None:
        await self.query_one(_Tree).narrow(text)

    @on(Input.Submitted, "#narrow")
    @work(exclusive=True)
    async def _take_first(self) -> None:
        path = await self.query_one(_Tree).first()
        if path is None:
            self._refuse(self.query_one("#narrow", Input).value, "is in no name here")
        elif await asyncio.to_thread(path.is_dir) and not self._kind.fits(path):
            self._show(path)
        else:
            self._take(path)

    def action_walk(self, by: int) -> None:
        """Move the tree's cursor while its list is being narrowed."""
        tree = self.query_one(_Tree)
        (tree.action_cursor_up if by < 0 else tree.action_cursor_down)()

    # -- places -------------------------------------------------------------------------------------------

    @on(Input.Submitted, "#place")
    def _go(self, event: Input.Submitted) -> None:
        """Go where the typed path leads, or take it."""
        event.stop()
        path = existing_path(event.value, self._start)
        if path is None:
            self._refuse(event.value, "does not exist")
        elif path.is_dir() and not self._kind.fits(path):
            self._show(path)
            self.query_one(_Tree).focus()
        else:
            self._take(path)

    def _show(self, folder: Path) -> None:
        """Show all that another folder has."""
        self.query_one(_Tree).open_folder(folder)
        self.query_one("#narrow", Input).value = ""
        place = self.query_one("#place", Input)
        place.value = str(folder)
        place.cursor_position = len(place.value)

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        """Take a file."""
        self._take(event.path)

    def on_directory_tree_directory_selected(self, event: DirectoryTree.DirectorySelected) -> None:
        """Take a folder that is what is looked for; others only open."""
        if self._kind.fits(event.path):
            self._take(event.path)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys do something once there is a tree."""
        return self.is_mounted

    def action_pick(self) -> None:
        """Take what the cursor is on."""
        node = self.query_one(_Tree).cursor_node
        if node is not None and node.data is not None:
            self._take(node.data.path)

    def action_up(self) -> None:
        """Show the folder above."""
        self._show(Path(self.query_one(_Tree).path).resolve().parent)

    def _take(self, path: Path) -> None:
        if not is_there(path):
            self._refuse(path, "does not exist")
        elif not self._kind.fits(path):
            self._refuse(path, "is not of the kind that is needed here")
        else:
            self.dismiss(path.resolve())

    def _refuse(self, path: object, why: str) -> None:
        self.query_one("#chosen", Static).update(f"✗ {plain_line(path)} {why}")
