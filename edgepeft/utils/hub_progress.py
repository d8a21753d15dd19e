"""The progress bars of the model hub's client, on a terminal whose other text is filtered."""

from __future__ import annotations

import sys
from typing import Any

from edgepeft.utils.terminal_text import unfiltered, visible_line


def hub_bars() -> Any:
    """A class for ``huggingface_hub``'s ``tqdm_class``: bars that repaint a line and show a file's name as it is.

    Raises ImportError without huggingface_hub.
    """
    import huggingface_hub.utils

    bars: Any = huggingface_hub.utils.tqdm  # type: ignore[attr-defined]

    class Bars(bars):  # type: ignore[misc]
        def __init__(self, *args: Any, **settings: Any) -> None:
            settings.setdefault("file", unfiltered(sys.stderr))
            if settings.get("desc") is not None:
                settings["desc"] = visible_line(settings["desc"])
            super().__init__(*args, **settings)

    return Bars
