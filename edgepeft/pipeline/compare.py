"""Comparing ways to quantize one run's adapter: every combination built, measured and put side by side."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.config.loader import varied
from edgepeft.config.run_recipe import recipe_of
from edgepeft.errors import EdgepeftError, InputError, InterruptedRun
from edgepeft.events import Sink, discard
from edgepeft.metrics.names import Vocabulary, vocabulary
from edgepeft.pipeline.build import measure
from edgepeft.pipeline.trials import RECORD as RECORD
from edgepeft.runs.folder import RunFolder
from edgepeft.stages.pool import Workers
from edgepeft.utils.whole_files import write_file, write_json


@dataclass(frozen=True)
class Variant:
    """One combination: the recipe's keys and the values they take."""

    values: Mapping[str, str]

    @property
    def overrides(self) -> list[str]:
        """The values in the form of ``--set``."""
        return [f"{key}={value}" for key, value in self.values.items()]


def variants(axes: Sequence[str]) -> list[Variant]:
    """Every combination of ``key=value,value,...`` axes. Raises InputError."""
    names: list[str] = []
    choices: list[list[str]] = []
    for axis in axes:
        key, equals, values = axis.partition("=")
        listed = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not key.strip() or not listed:
            raise InputError(
                f"--vary {axis}: write it as key=value,value, as in quantize.head=int4,int8"
            )
        if key.strip() in names:
            raise InputError(f"--vary {axis}: {key.strip()} is given twice")
        names.append(key.strip())
        choices.append(listed)
    combinations = itertools.product(*choices)
    return [Variant(dict(zip(names, values, strict=True))) for values in combinations]


def label(values: Mapping[str, str]) -> str:
    """A combination in a few words: its values alone, in the order of their keys."""
    return " ".join(values.values())


def compare(run: Path, axes: Sequence[str], sink: Sink = discard) -> list[dict[str, Any]]:
    """Build and measure every combination on a run's adapter; what was measured before is reused.

    Returns one entry a combination: ``values``, and either ``bytes``, ``weights``, ``gates``, ``fidelity`` and
    ``path``, or ``error``. They are also written to ``comparison.json`` in the run, after each. Raises InputError
    where a combination is no valid recipe, before anything is built.
    """
    folder = RunFolder(run.resolve())
    recipe = recipe_of(folder.path)
    if recipe.recipe.matrix:
        raise InputError(
            f"{run}: the recipe has a matrix; compare needs one without. Add the keys to the matrix instead"
        )
    chosen = [(variant, varied(recipe, variant.overrides)) for variant in variants(axes)]
    entries: list[dict[str, Any]] = []
    with folder.locked(), Workers() as workers:
        for number, (variant, changed) in enumerate(chosen, 1):
            sink(
                {
                    "event": "message",
                    "stage": "compare",
                    "text": f"{number} of {len(chosen)}: {label(variant.values)}",
                }
            )
            entry: dict[str, Any] = {"values": dict(variant.values)}
            try:
                for bundle in measure(changed, folder, workers, sink):
                    entries.append({**entry, **_facts(bundle)})
            except InterruptedRun:
                raise
            except EdgepeftError as error:
                entries.append({**entry, "error": str(error)})
            write_json(folder.path / RECORD, {"axes": list(axes), "entries": entries})
    return entries


def _facts(bundle: Mapping[str, Any]) -> dict[str, Any]:
    report = json.loads((Path(bundle["path"]) / "fidelity.json").read_text(encoding="utf-8"))
    kept = ("target", "path", "bytes", "gates", "fidelity")
    return {**{key: bundle[key] for key in kept}, "weights": report["weights"]}


def scatter(entries: Sequence[Mapping[str, Any]], width: int = 90, height: int = 18) -> str:
    """Bytes against distance from the reference in ``width`` by ``height`` characters.

    Each point is the number of its entry. Empty where fewer than two were measured.
    """
    import plotext

    measured = [(i, entry) for i, entry in enumerate(entries, 1) if "fidelity" in entry]
    if len(measured) < 2:
        return ""
    words = vocabulary_of(entries)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, height)
    plotext.title(f"{words.distance.title} against bundle size (MB)")
    plotext.yscale("log")
    for number, entry in measured:
        size, value = entry["bytes"] / 1e6, max(words.distance.of(entry["fidelity"]), 1e-7)
        plotext.scatter([size], [value], marker=str(number)[-1])
    # Even without colours every line ends with the escape code that resets them.
    return str(plotext.uncolorize(plotext.build()))


def vocabulary_of(entries: Sequence[Mapping[str, Any]]) -> Vocabulary:
    """The words for the measures of a comparison, whose entries are all of one task."""
    return vocabulary(next((entry["fidelity"] for entry in entries if "fidelity" in entry), {}))


def draw(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A picture of bytes against distance from the reference and two further measures, as PNG or SVG by the
    file's name.

    Raises InputError where nothing was measured, EdgepeftError where the picture can't be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = [entry for entry in entries if "fidelity" in entry]
    if not measured:
        raise InputError("--picture: no variant was measured, so there is nothing to plot")
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 5), layout="constrained")
    sizes = [entry["bytes"] / 1e6 for entry in measured]
    words = vocabulary_of(entries)
    further = [one for one in words.compared if one.measure != words.distance.measure][:2]
    panels: list[tuple[str, Callable[[Mapping[str, Any]], float | None], str]] = [
        (words.distance.title, words.distance.of, "log"),
        *((one.title, one.of, "log" if "kl" in one.measure else "linear") for one in further),
    ]
    for axis, (title, value_of, scale) in zip(axes, panels, strict=True):
        for number, (size, entry) in enumerate(zip(sizes, measured, strict=True), 1):
            value = value_of(entry["fidelity"])
            if value is None:
                continue
            shown = max(value, 1e-7) if scale == "log" else value
            axis.scatter([size], [shown], s=45, label=f"{number}: {label(entry['values'])}")
            axis.annotate(str(number), (size, shown), xytext=(5, 4), textcoords="offset points")
        axis.set(xlabel="bundle, MB", ylabel=title, yscale=scale)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    form = path.suffix.removeprefix(".").lower()
    write_file(path, lambda stream: figure.savefig(stream, format=form, dpi=140))
    pyplot.close(figure)
