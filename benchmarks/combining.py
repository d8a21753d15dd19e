"""Two tasks' adapters in one: what each method keeps of each task, beside PEFT's own combination.

    python benchmarks/combining.py BASE FIRST=FILE SECOND=FILE [--rows 24] [--trials 12] [--search-rows 48]

BASE is a checkpoint's folder (a run's stages/base-...), FIRST and SECOND are adapter folders of it, and FILE is a
data file, recipe or run with each one's test rows. Every method is tried with weights of 1 on the reported rows,
by ``edgepeft combine``'s code and by PEFT's ``add_weighted_adapter`` around the loaded model; ``difference`` is
the largest between the two changes of any weight (dare draws what it drops, so there is none for it). PEFT has
no regmean, which is fitted to the rows of the search. Then a search over methods and weights is made on those.
Printed is a JSON object a line, as each is measured; the figures are exact matches.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from edgepeft.cli.adapter_facts import quiet_libraries
from edgepeft.combination.combine import combine
from edgepeft.combination.evaluate import Measuring, combine_measured
from edgepeft.combination.fitting import Fitter
from edgepeft.combination.folders import Parts
from edgepeft.combination.methods import REGMEAN, Combination, drops_values
from edgepeft.combination.scoring import Scorer, TaskRows
from edgepeft.combination.search import DENSITY, METHODS
from edgepeft.events import Events


class Bench:
    """The base in memory, the adapters and their rows."""

    def __init__(
        self, base: Path, folders: list[Path], tests: list[Path], rows: int, searched: int
    ) -> None:
        self.base, self.folders = base, folders
        self.parts = Parts.open(folders)
        self.scorer = Scorer(base, self.parts.adapters, allow_mismatch=False)
        self.tasks = [
            self.scorer.read(name, file, rows=rows, searched=searched)
            for name, file in zip(("first", "second"), tests, strict=True)
        ]

    def score(self, tasks: list[TaskRows] | None = None) -> dict[str, float]:
        """Exact match on each task of what the base wears."""
        return {
            task.name: self.scorer.score(task.name, task.reported).exact_match
            for task in tasks or self.tasks
        }

    def alone(self) -> dict[str, float]:
        """Each adapter on its own task."""
        found: dict[str, float] = {}
        for task, factors in zip(self.tasks, self.parts.factors, strict=True):
            self.scorer.wear(factors)
            found |= self.score([task])
        return found

    def ours(self, how: Combination) -> dict[str, float]:
        """A combination by edgepeft."""
        self.scorer.wear(combine(self.parts.factors, how))
        return self.score()

    def fitted(self, weights: tuple[float, ...]) -> dict[str, float]:
        """The least squares of both tasks' rows."""
        questions = [task.searched for task in self.tasks]
        self.scorer.wear(Fitter(self.scorer, self.parts.factors, questions).fit(weights))
        return self.score()

    def pefts(self, how: Combination) -> tuple[dict[str, float], float | None]:
        """The same by PEFT, and the largest difference of a weight's change."""
        self.scorer.wear(None)
        wrapped = PeftModel.from_pretrained(self.scorer.model, str(self.folders[0]), "0")
        wrapped.load_adapter(str(self.folders[1]), "1")
        torch.manual_seed(how.seed)
        wrapped.add_weighted_adapter(
            ["0", "1"],
            list(how.weights),
            "both",
            combination_type=how.method,
            density=how.density,
        )
        wrapped.set_adapter("both")
        found = self.score()
        mine = combine(self.parts.factors, how)
        difference = max(
            float((layer.get_delta_weight("both") - mine.delta(name)).abs().max())
            for name, layer in (
                (name.removeprefix("base_model.model."), module)
                for name, module in wrapped.named_modules()
                if "both" in getattr(module, "lora_A", {})
            )
        )
        wrapped.unload()
        return found, None if "dare" in how.method else difference


def show(**facts: Any) -> None:
    """Print one line of the result."""
    print(json.dumps(facts, default=str), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("base", type=Path)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--search-rows", type=int, default=48)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--parts", default="methods,search")
    asked = parser.parse_args()
    quiet_libraries()
    pairs = [text.partition("=")[::2] for text in (asked.first, asked.second)]
    folders, tests = ([Path(pair[side]) for pair in pairs] for side in (0, 1))
    if "methods" in asked.parts.split(","):
        bench = Bench(asked.base, folders, tests, asked.rows, asked.search_rows)
        show(rows=asked.rows, alone=bench.alone())
        plain = Combination("cat", (1.0, 1.0))
        for method in asked.methods.split(","):
            if method == REGMEAN:
                show(method=method, edgepeft=bench.fitted(plain.weights))
                continue
            density = DENSITY if drops_values(method) else None
            how = replace(plain, method=method, density=density)
            theirs, difference = bench.pefts(how)
            show(method=method, edgepeft=bench.ours(how), peft=theirs, difference=difference)
    if "search" in asked.parts.split(","):
        with tempfile.TemporaryDirectory() as out:
            measuring = Measuring(
                dict(zip(("first", "second"), tests, strict=True)),
                asked.rows,
                asked.trials,
                asked.search_rows,
            )
            facts = combine_measured(
                folders,
                Combination("cat", (1.0, 1.0)),
                Path(out) / "both",
                asked.base,
                measuring,
                events=Events("combine"),
            )
        keys = ("method", "weights", "density", "rank", "tasks", "search")
        show(settings=asdict(measuring), **{key: facts[key] for key in keys})


if __name__ == "__main__":
    main()
