"""The layers of a run that has no result yet: the quantization error of each, where rounding is finished."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from edgepeft_tui.job import Job
from edgepeft_tui.layers import layers_of
from edgepeft_tui.widgets.layer_strip import LayerStrip
from edgepeft_tui.widgets.page import Page


class LayersScreen(Page):
    """A strip for each rounding of a run."""

    help = "Higher is worse. Left and right walk the layers. Down goes to the next worst."

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    @property
    def heading(self) -> str:  # type: ignore[override]
        """Which run."""
        return f"{self.job.run.name}  ›  layers"

    def body(self) -> ComposeResult:
        """The strips, one below the other."""
        with VerticalScroll(classes="scroll", can_focus=False):
            for layers in layers_of(self.job.run):
                yield LayerStrip(layers)
