"""The devices a bundle can be built for."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from edgepeft.targets import TargetProfile, all_targets
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import marked, pairs


class TargetsScreen(Page):
    """Every registered target with its limits."""

    heading = "targets"
    help = "The devices a bundle can be built for, and whether this machine can run the result."

    def body(self) -> ComposeResult:
        """A box for each."""
        with VerticalScroll(classes="scroll"):
            for target in all_targets().values():
                yield Panel(target.name, id=f"target-{target.name}")

    def on_mount(self) -> None:
        """Fill the boxes."""
        for target in all_targets().values():
            self.query_one(f"#target-{target.name}", Panel).say(_describe(target))
        self.query_one(VerticalScroll).focus()


def _describe(target: TargetProfile) -> str:
    provider = target.provider.removesuffix("ExecutionProvider")
    here = target.verify_provider.removesuffix("ExecutionProvider")
    executed = target.verify_provider == target.provider
    proof = f"verified on {here}" if executed else f"verified on {here}; not run on {provider} here"
    lines = [
        ("for", target.summary),
        ("provider", provider),
        ("weights", f"{target.precision}, computes in {target.io_dtype}"),
    ]
    if target.bits:
        lines.append(("blocks", ", ".join(map(str, target.block_sizes))))
    return f"{pairs(lines)}\n{marked('done' if executed else 'warning', proof)}"
