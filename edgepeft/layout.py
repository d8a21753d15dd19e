"""The stages of a plan: what each reads, and the key that identifies what it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepeft.fidelity.execution import choose_execution
from edgepeft.ingredients import Ingredients, Reading
from edgepeft.merging.combinations import REGMEAN
from edgepeft.quantization.algorithms import resolve_algorithm
from edgepeft.runtime.adapters import ADAPTERS
from edgepeft.stage import Stage
from edgepeft.target_sections import Quantize
from edgepeft.targets import TargetProfile, find_exporter
from edgepeft.tasks import GENERATION

if TYPE_CHECKING:
    from edgepeft.planning import Plan

STAGE_VERSIONS = {
    "base": 1,
    "train": 4,
    "combine": 2,
    "merge": 2,
    "quantize": 8,
    "export": 7,
    "adapt": 1,
    "reference": 5,
    "verify": 2,
}
"""Raised when a stage's output changes for the same inputs, so that old outputs are not reused."""

ORDER = tuple(kind for kind in STAGE_VERSIONS if kind != "adapt")
"""Kinds of stages in the order of a build; putting adapters into a hot-swap bundle goes with its export."""


class Layout:
    """Adds the stages of a plan one by one, each with the digests of what it reads."""

    def __init__(self, plan: Plan, until: str, bundles_apart: bool) -> None:
        self._plan = plan
        self._bundles_apart = bundles_apart
        self._until = until
        self._recipe = plan.recipe.recipe
        self._read = Ingredients(plan)

    def lay_out(self) -> None:
        """Lay out every stage up to the last one wanted."""
        steps = {
            "base": self._base,
            "train": self._train,
            "combine": self._combine,
            "merge": self._merge,
            "quantize": self._quantize,
            "export": self._export,
            "reference": self._reference,
            "verify": self._verify,
        }
        for kind in ORDER[: ORDER.index(self._until) + 1]:
            steps[kind]()
        self._read.save()

    def _base(self) -> None:
        tokens = self._recipe.data.tokens
        settings: dict[str, Any] = {"tokens": tokens} if tokens else {}
        function = "edgepeft.checkpoints.base:run"
        if self._plan.task != GENERATION:
            settings = {**self._read.task(), "labels": self._plan.labels}
            function = "edgepeft.checkpoints.encoder_base:run"
        self._add("base", "base", function, settings, {}, self._read.model())

    def _combine(self) -> None:
        parts = self._recipe.adapter
        if not isinstance(parts, list):
            return
        fits = self._recipe.combine.method == REGMEAN
        how = self._recipe.combine.model_dump(mode="json", exclude=set() if fits else {"rows"})
        settings: dict[str, Any] = {
            "combine": {**how, "weights": [part.weight for part in parts]},
            "merge": {"allow_base_mismatch": self._recipe.merge.allow_base_mismatch},
        }
        files = {f"adapter-{i}": self._read.folder(part.path) for i, part in enumerate(parts)}
        function = "edgepeft.merging.combine_stage:run"
        if fits:
            function = "edgepeft.fidelity.fitting:run"
            settings["data"] = self._read.data_settings("max_length", "max_test_rows")
            files |= {f"rows-{i}": self._read.file(part.rows) for i, part in enumerate(parts)}
            tested = self._recipe.data.test and self._read.file(self._recipe.data.test)[1]
            self._plan.notes += [
                f"adapter.{i}.rows: has the rows of data.test, so the report measures on rows that regmean saw"
                for i in range(len(parts))
                if files[f"rows-{i}"][1] == tested
            ]
            files |= self._read.template()
        self._add("combine", "combine", function, settings, {"base": "base"}, files)

    def _train(self) -> None:
        if self._recipe.adapter is not None:
            return
        data = self._recipe.data
        files = {"train": self._read.file(data.train)}
        if data.test is not None and self._recipe.training.eval_rows:
            files["test"] = self._read.file(data.test)
        recipe, config = self._plan.recipe, self._recipe.training.accelerate_config
        settings = {
            **self._read.task(),
            "method": self._recipe.method.model_dump(mode="json"),
            "training": self._training(),
            "data": self._read.data_settings("max_test_rows"),
            "base_name": self._plan.base_name,
        }
        self._add(
            "train",
            "train",
            "edgepeft.training.stage:run",
            settings,
            {"base": "base"},
            {**files, **self._read.template()},
            how={} if config is None else {"accelerate_config": str(recipe.resolve(config))},
        )

    def _training(self) -> dict[str, Any]:
        """What makes a training what it is; a single process goes without saying."""
        training = self._recipe.training
        left_out = {"accelerate_config", *(("processes",) if training.processes == 1 else ())}
        return training.model_dump(mode="json", exclude=left_out)

    def _merge(self) -> None:
        needed = any(not self._plan.swaps(target) for target in self._plan.targets)
        if (self._recipe.merge.save and needed) or self._until == "merge":
            self._add("merge", "merge", "edgepeft.merging.stage:run", *self._read.adapted)

    def _quantize(self) -> None:
        lossless = {
            self._plan.quantize_stage(target): self._plan.swaps(target)
            for target in self._plan.targets
            if target.precision == "nf4"
        }
        for stage, swapped in sorted(lossless.items()):
            read = self._read.base_alone if swapped else self._read.adapted
            self._add(stage, "quantize", "edgepeft.quantization.lossless:run", *read)
        # Targets that round alike share one stage.
        wanted = {
            self._plan.quantize_stage(target): target
            for target in self._plan.targets
            if target.bits
        }
        for stage, target in sorted(wanted.items()):
            self._round(stage, target, self._plan.grids[target.name])

    def _round(self, stage: str, target: TargetProfile, quantize: Quantize) -> None:
        bits = target.bits or 0
        name = resolve_algorithm(quantize.algorithm, bits)
        read = self._weights(target)
        unread = {"accuracy_level", "calibration", "smooth"}
        if not quantize.learn_steps:
            unread.add("learn_steps")
        settings: dict[str, Any] = {
            **read.settings,
            "quantize": {
                **quantize.model_dump(mode="json", exclude=unread, exclude_none=True),
                "head_block_size": quantize.head_blocks(bits),
                "algorithm": name,
            },
            "bits": bits,
        }
        files = read.files
        smooths = self._plan.smooths(target)
        if smooths:
            settings["quantize"]["smooth"] = True
        if quantize.budget is not None or smooths:
            levels = [
                self._accuracy_level(one)
                for one in self._plan.targets
                if one.bits and self._plan.quantize_stage(one) == stage
            ]
            settings["eight_bit_inputs"] = any(level == 4 for level in levels)
        if self._plan.calibrates(target):
            settings |= self._read.task()
            settings["data"] = self._read.data_settings("max_length", "max_test_rows")
            settings["quantize"]["calibration"] = quantize.calibration.model_dump(
                mode="json", exclude={"text"}
            )
            files = {**files, **self._read.template()}
            if self._recipe.data.train is not None:
                files["calibration_rows"] = self._read.file(self._recipe.data.train)
            if quantize.calibration.text is not None:
                files["calibration_text"] = self._read.file(quantize.calibration.text)
        self._add(
            stage, "quantize", "edgepeft.quantization.stage:run", settings, read.inputs, files
        )

    def _adapt(self, target: TargetProfile) -> None:
        """Put the recipe's own adapter and the further ones into a hot-swap bundle."""
        bundle = self._plan.stage(f"export-{target.name}")
        _, inputs, files = self._read.adapted
        own = (self._plan.recipe.adapter_name, inputs, files)
        further = [
            (adapter.name, {"base": "base"}, {"adapter": self._read.folder(adapter.path)})
            for adapter in self._recipe.adapters
        ]
        for name, inputs, files in (own, *further):
            self._add(
                f"adapt-{target.name}-{name}",
                "adapt",
                "edgepeft.hot_swap.stage:run",
                {"merge": self._read.merge_settings(), "name": name},
                {**inputs, "bundle": bundle.name},
                files,
                final=bundle.final / ADAPTERS / name,
            )

    def _export(self) -> None:
        for target in self._plan.targets:
            read = self._weights(target)
            settings: dict[str, Any] = {
                **read.settings,
                "target": target.as_dict(),
                "accuracy_level": self._accuracy_level(target),
                "template": self._recipe.data.template,
                "control_tokens": self._recipe.data.control_tokens,
                "base_name": self._plan.base_name,
                "layout": self._recipe.layout,
            }
            if self._plan.swaps(target):
                asked = self._plan.asked(target)
                settings["hot_swap"] = {
                    **settings["hot_swap"],
                    "rank": asked.adapter_rank,
                    "modules": asked.adapter_modules,
                }
            inputs = read.inputs
            if target.quantized:
                inputs = {**inputs, "quantize": self._plan.quantize_stage(target)}
            self._add(
                f"export-{target.name}",
                "export",
                find_exporter(target.exporter).stage,
                settings,
                inputs,
                {**read.files, **self._read.template()},
                final=None if self._bundles_apart else self._plan.run.bundle(target.name),
            )
            if self._plan.swaps(target):
                self._adapt(target)

    def _weights(self, target: TargetProfile) -> Reading:
        """What a target's stages read: the merged weights, or where adapters are swapped the base alone."""
        return self._read.base_alone if self._plan.swaps(target) else self._read.weights()

    def _accuracy_level(self, target: TargetProfile) -> int:
        if not target.bits:
            return target.accuracy_level
        asked = self._plan.asked(target)
        said = (asked.accuracy_level, self._recipe.quantize.accuracy_level, target.accuracy_level)
        return next(level for level in said if level is not None)

    def _reference(self) -> None:
        _, inputs, files = self._read.adapted
        self._refer("reference", self._recipe.data.test, inputs, files)
        for adapter in self._recipe.adapters:
            test = adapter.test or self._recipe.data.test
            folder = self._read.folder(adapter.path)
            self._refer(f"reference-{adapter.name}", test, {"base": "base"}, {"adapter": folder})

    def _refer(
        self,
        name: str,
        test: str | None,
        inputs: Mapping[str, str],
        adapter: Mapping[str, tuple[Path, str]],
    ) -> None:
        files = {"test": self._read.file(test)}
        if self._recipe.data.generic is not None:
            files["generic"] = self._read.file(self._recipe.data.generic)
        self._add(
            name,
            "reference",
            self._by_task(
                "edgepeft.fidelity.reference:run", "edgepeft.fidelity.encoders:reference"
            ),
            {
                **self._read.task(),
                "merge": {
                    "base": "dequantized",
                    "grid": self._recipe.merge.grid,
                    "allow_base_mismatch": self._recipe.merge.allow_base_mismatch,
                },
                "data": self._read.data_settings("max_length"),
            },
            inputs,
            {**files, **adapter, **self._read.template()},
        )

    def _verify(self) -> None:
        for target in self._plan.targets:
            stem = f"verify-{target.name}"
            if not self._plan.swaps(target):
                self._measure(target, stem, "reference", None)
                continue
            adapt = f"adapt-{target.name}"
            self._measure(target, stem, "reference", f"{adapt}-{self._plan.recipe.adapter_name}")
            for adapter in self._recipe.adapters:
                reference = f"reference-{adapter.name}"
                self._measure(
                    target, f"{stem}-{adapter.name}", reference, f"{adapt}-{adapter.name}"
                )

    def _measure(
        self, target: TargetProfile, name: str, reference: str, adapter: str | None
    ) -> None:
        execution = choose_execution(target.provider, target.io_dtype, target.verify_provider)
        inputs = {"bundle": f"export-{target.name}", "reference": reference, "base": "base"}
        self._add(
            name,
            "verify",
            self._by_task("edgepeft.fidelity.verify:run", "edgepeft.fidelity.encoders:verify"),
            # What is on this machine enters the key: where a GPU comes, the bundle is verified anew.
            {"execution": execution.as_dict()},
            inputs if adapter is None else {**inputs, "adapter": adapter},
            {},
        )

    def _add(
        self,
        name: str,
        kind: str,
        function: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        files: Mapping[str, tuple[Path, str]],
        final: Path | None = None,
        how: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a stage; ``how`` are settings that don't change what comes out, and so are no part of its key."""
        identity = {
            "kind": kind,
            "version": STAGE_VERSIONS[kind],
            "function": function,
            "settings": settings,
            "inputs": {key: self._plan.stage(stage).key for key, stage in inputs.items()},
            "files": {key: digest for key, (_, digest) in files.items()},
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._plan.stages.append(
            Stage(
                name=name,
                kind=kind,
                function=function,
                settings={**settings, **(how or {})},
                inputs=inputs,
                files=files,
                key=key,
                final=final or self._plan.run.stage(name, key),
                scratch=self._plan.run.scratch(name, key),
            )
        )

    def _by_task(self, generation: str, encoder: str) -> str:
        return generation if self._plan.task == GENERATION else encoder
