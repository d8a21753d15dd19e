"""Small windows over a screen: help, a question with yes or no, and a picker of files and folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text, TextType
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, DirectoryTree, Input, Static

from edgepeft_tui.plain_text import plain, plain_line, title, visible_line
from edgepeft_tui.typed_paths import existing_path, is_there
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.hanging import Hanging


class HelpWindow(ModalScreen[None]):
    """A title and some text; any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,enter,q", "dismiss", "Close"),
    ]

    def __init__(self, title: str, markup: str) -> None:
        super().__init__()
        self._title, self._markup = title, markup

    def compose(self) -> ComposeResult:
        """The window."""
        with VerticalScroll(classes="window") as window:
            window.border_title = title(self._title)
            window.border_subtitle = "Esc closes"
            yield Static(Hanging(self._markup))


class Question(ModalScreen[bool]):
    """A question before something that can't be undone. The default is no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "No"),
        Binding("y", "answer(True)", "Yes"),
    ]

    def __init__(self, question: str, yes: str) -> None:
        super().__init__()
        self._question, self._yes = question, yes

    def compose(self) -> ComposeResult:
        """The question and two buttons, the harmless one first."""
        with Vertical(classes="window"):
            yield Static(plain(self._question))
            with Horizontal(classes="buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button(f"{self._yes} (y)", id="yes", variant="error", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Answer by key."""
        self.dismiss(answer)


class _Tree(DirectoryTree):
    """A tree that shows folders and the files of some kinds, nothing hidden."""

    def __init__(self, path: Path, suffixes: tuple[str, ...]) -> None:
        self._suffixes = suffixes
        super().__init__(path)

    def process_label(self, label: TextType) -> Text:
        """A file's name as it is, not as markup."""
        return super().process_label(Text(visible_line(label)))

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """Folders, and files that may be picked."""
        return [
            path
            for path in paths
            if not path.name.startswith(".")
            and (path.is_dir() or path.suffix.lower() in self._suffixes)
        ]


class Picker(ModalScreen[Path | None]):
    """A tree of folders and files to pick from, and a line to type another place into."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("ctrl+s", "pick", "Take this"),
        Binding("ctrl+u", "up", "Parent folder"),
    ]

    def __init__(
        self, title: str, start: Path, suffixes: tuple[str, ...], fits: Callable[[Path], bool]
    ) -> None:
        """``fits`` says whether a path can be taken; ``suffixes`` are the files that are shown."""
        super().__init__()
        self._title, self._suffixes, self._fits = title, suffixes, fits
        self._start = start if start.is_dir() else start.parent

    def compose(self) -> ComposeResult:
        """Where, the tree, what is chosen."""
        with Vertical(classes="window picker") as window:
            window.border_title = title(self._title)
            window.border_subtitle = (
                "Enter opens or takes · Ctrl+S takes the folder · Ctrl+U up · Esc"
            )
            yield Entry(str(self._start), id="place")
            yield _Tree(self._start, self._suffixes)
            yield Static("", id="chosen")

    def on_mount(self) -> None:
        """Begin in the tree."""
        self.query_one(_Tree).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go where the typed path leads, or take it."""
        event.stop()
        path = existing_path(event.value, self._start)
        if path is None:
            self._refuse(event.value, "does not exist")
        elif path.is_dir() and not self._fits(path):
            self.query_one(_Tree).path = path
            self.query_one(_Tree).focus()
        else:
            self._take(path)

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        """Take a file."""
        self._take(event.path)

    def on_directory_tree_directory_selected(self, event: DirectoryTree.DirectorySelected) -> None:
        """Take a folder that is what is looked for; others only open."""
        if self._fits(event.path):
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
        tree = self.query_one(_Tree)
        tree.path = Path(tree.path).resolve().parent
        self.query_one("#place", Input).value = str(tree.path)

    def _take(self, path: Path) -> None:
        if not is_there(path):
            self._refuse(path, "does not exist")
        elif not self._fits(path):
            self._refuse(path, "is not of the kind that is needed here")
        else:
            self.dismiss(path.resolve())

    def _refuse(self, path: object, why: str) -> None:
        self.query_one("#chosen", Static).update(f"✗ {plain_line(path)} {why}")
