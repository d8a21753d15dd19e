"""The entry point that ``edgepeft tui`` calls."""

from __future__ import annotations

import sys
from pathlib import Path

import textual  # noqa: F401  (absent without the extra, which the command then names)


def launch(recipe: Path | None = None, *, serve: bool = False, port: int = 8000) -> None:
    """Show the wizard in this terminal, or with ``serve`` in a browser on this machine.

    ``recipe`` is opened in it. Raises InputError for a recipe or a keymap that can't be read.
    """
    if serve:
        from edgepeft_tui.serve import serve_in_browser

        serve_in_browser(recipe, port)
        return
    from edgepeft_tui.app import EdgepeftApp, tame_collector
    from edgepeft_tui.draft_files import open_draft
    from edgepeft_tui.plain_text import visible_line

    app = EdgepeftApp(draft=open_draft(recipe) if recipe is not None else None)
    app.use_keymap()
    tame_collector()
    app.run()
    for job in app.jobs.active():
        name = visible_line(job.run.name)
        print(f"{name} is still running; edgepeft tui shows it again", file=sys.stderr)
    if app.return_code:
        raise SystemExit(app.return_code)
