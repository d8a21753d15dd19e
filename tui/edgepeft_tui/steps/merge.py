"""Step 4: what the adapter is merged into, and how the result is quantized."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from edgepeft_tui.steps.base import Step


class MergeStep(Step):
    """Merge and quantize sections of the recipe."""

    title = "Merge and quantize"
    help = (
        "The adapter is merged into the dequantized base it was trained on, and the result is quantized for "
        "the device. With max bytes set, each layer gets the precision that it needs most."
    )

    def content(self) -> ComposeResult:
        """The fields of both sections."""
        yield Static("Merge", classes="caption")
        yield from self.rows("merge.", simple=["merge.base"])
        yield Static("Quantize", classes="caption")
        yield from self.rows(
            "quantize.",
            simple=[
                "quantize.algorithm",
                "quantize.block_size",
                "quantize.head",
                "quantize.max_bytes",
                "quantize.max_generic_kl",
            ],
        )
