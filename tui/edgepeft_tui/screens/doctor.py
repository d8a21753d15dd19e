"""What this machine has: hardware, libraries, problems, extras that are missing."""

from __future__ import annotations

from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from edgepeft.utils.quantities import megabytes
from edgepeft_tui.plain_text import plain_line
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import HANG, mark, marked, pairs


class DoctorScreen(Page):
    """The report of ``edgepeft doctor``."""

    heading = "doctor"
    help = "What is installed here, which problems there are, and which extras are missing."

    def body(self) -> ComposeResult:
        """Four boxes."""
        with VerticalScroll(classes="scroll"):
            yield Panel("Problems", id="problems")
            yield Panel("This machine", id="machine")
            yield Panel("Extras", id="extras")
            yield Panel("Libraries", id="libraries")

    def on_mount(self) -> None:
        """Look."""
        self.query_one("#problems", Panel).say("[$muted]checking …[/]")
        self.query_one(VerticalScroll).focus()
        self.look()

    @work(thread=True)
    def look(self) -> None:
        """Ask in a thread: a driver's tool may take its time."""
        from edgepeft.utils import environment as doctor
        from edgepeft.utils.extras import extras

        installed = doctor.versions()
        machine = doctor.hardware()
        wrong = "\n".join(marked("failed", plain_line(line)) for line in doctor.problems(installed))
        facts = [
            ("system", machine["system"]),
            ("processor", f"{machine['processor']}, {machine['cores']} cores"),
            ("instructions", " ".join(machine["instructions"]) or "none that help"),
            (
                "memory",
                f"{megabytes(machine['free_memory_bytes'])} free of {megabytes(machine['memory_bytes'])}",
            ),
            ("disk", f"{megabytes(machine['free_disk_bytes'])} free"),
            ("gpu", "; ".join(machine["gpus"]) or "none found"),
        ]
        found = []
        for extra in extras():
            about = extra.purpose
            if not extra.complete:
                about += f"; {extra.state}: {extra.install}"
            state = mark("done" if extra.complete else "open")
            found.append(f"{state} {plain_line(extra.name):<8} {HANG}{plain_line(about)}")
        libraries = [
            f"{mark('done' if version else 'open')} {name:<22} {HANG}{version or 'not installed'}"
            for name, version in installed.items()
        ]
        for panel, markup in (
            ("problems", wrong or f"{mark('done')} No problems found"),
            ("machine", pairs(facts)),
            ("extras", "\n".join(found)),
            ("libraries", "\n".join(libraries)),
        ):
            self.app.call_from_thread(self.query_one(f"#{panel}", Panel).say, markup)
