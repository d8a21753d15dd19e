"""The stages of a plan: what each reads, and the key that identifies what it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgepeft.bundle.layout import ADAPTERS
from edgepeft.combination.methods import REGMEAN
from edgepeft.config.target_sections import Quantize
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.ingredients import Ingredients, Reading
from edgepeft.pipeline.plan import Plan
from edgepeft.quantization.algorithms import resolve_algorithm
from edgepeft.stages.job import Stage
from edgepeft.stages.registry import ENCODER, STAGES
from edgepeft.targets import TargetProfile, find_exporter


class Layout:
    """Adds the stages of a plan one by one, each with the digests of what it reads."""

    def __init__(self, plan: Plan, until: str, bundles_apart: bool) -> None:
        self._plan = plan
        self._bundles_apart = bundles_apart
        self._until = until
        self._recipe = plan.recipe.recipe
        self.read = Ingredients(plan)

    @property
    def steps(self) -> Mapping[str, Callable[[], None]]:
        """What adds the stages of each kind that makes something; proofs are ``ProofLayout``'s."""
        return {
            "base": self._base,
            "train": self._train,
            "combine": self._combine,
            "merge": self._merge,
            "quantize": self._quantize,
            "export": self._export,
        }

    def _base(self) -> None:
        tokens, needs = self._recipe.data.tokens, self._plan.needs
        settings: dict[str, Any] = {"tokens": tokens} if tokens else {}
        if self._plan.task != GENERATION:
            settings = {**self.read.task(), "labels": self._plan.labels}
        settings |= {"rows": needs.rows} if needs.rows is not None else {}
        settings |= {"own_head": True} if needs.own_head else {}
        files = {**self.read.model(), **self.read.own()}
        self.add("base", "base", settings, {}, files, form=self.form)

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
        files = {f"adapter-{i}": self.read.folder(part.path) for i, part in enumerate(parts)}
        if fits:
            settings["data"] = self.read.data_settings("max_length", "max_test_rows")
            files |= {f"rows-{i}": self.read.file(part.rows) for i, part in enumerate(parts)}
            tested = self._recipe.data.test and self.read.file(self._recipe.data.test)[1]
            self._plan.notes += [
                f"adapter.{i}.rows: is the same file as data.test, so the report measures on rows that regmean "
                "saw"
                for i in range(len(parts))
                if files[f"rows-{i}"][1] == tested
            ]
            files |= self.read.template()
        form = "fitted" if fits else ""
        self.add("combine", "combine", settings, {"base": "base"}, files, form=form)

    def _train(self) -> None:
        if self._recipe.adapter is not None:
            return
        data = self._recipe.data
        files = {"train": self.read.file(data.train)}
        if data.test is not None and self._recipe.training.eval_rows:
            files["test"] = self.read.file(data.test)
        recipe, config = self._plan.recipe, self._recipe.training.accelerate_config
        settings = {
            **self.read.task(),
            "method": self._recipe.method.model_dump(mode="json"),
            "training": self._training(),
            "data": self.read.data_settings("max_test_rows"),
            "base_name": self._plan.base_name,
        }
        self.add(
            "train",
            "train",
            settings,
            {"base": "base"},
            {**files, **self.read.template()},
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
            self.add("merge", "merge", *self.read.adapted)

    def _quantize(self) -> None:
        lossless = {
            self._plan.quantize_stage(target): self._plan.swaps(target)
            for target in self._plan.targets
            if target.precision == "nf4"
        }
        for stage, swapped in sorted(lossless.items()):
            read = self.read.base_alone if swapped else self.read.adapted
            self.add(stage, "quantize", *read, form="lossless")
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
            settings |= self.read.task()
            settings["data"] = self.read.data_settings("max_length", "max_test_rows")
            settings["quantize"]["calibration"] = quantize.calibration.model_dump(
                mode="json", exclude={"text"}
            )
            files = {**files, **self.read.template()}
            if self._recipe.data.train is not None:
                files["calibration_rows"] = self.read.file(self._recipe.data.train)
            if quantize.calibration.text is not None:
                files["calibration_text"] = self.read.file(quantize.calibration.text)
        self.add(stage, "quantize", settings, read.inputs, files)

    def _adapt(self, target: TargetProfile) -> None:
        """Put the recipe's own adapter and the further ones into a hot-swap bundle."""
        bundle = self._plan.stage(f"export-{target.name}")
        _, inputs, files = self.read.adapted
        own = (self._plan.recipe.adapter_name, inputs, files)
        further = [
            (adapter.name, {"base": "base"}, {"adapter": self.read.folder(adapter.path)})
            for adapter in self._recipe.adapters
        ]
        for name, inputs, files in (own, *further):
            self.add(
                f"adapt-{target.name}-{name}",
                "adapt",
                {"merge": self.read.merge_settings(), "name": name},
                {**inputs, "bundle": bundle.name},
                files,
                final=bundle.final / ADAPTERS / name,
            )

    def _export(self) -> None:
        for target in self._plan.targets:
            settings, inputs, files = self.exported(target)
            self.add(
                f"export-{target.name}",
                "export",
                settings,
                inputs,
                files,
                form=target.exporter,
                final=None if self._bundles_apart else self._plan.run.bundle(target.name),
            )
            if self._plan.swaps(target):
                self._adapt(target)

    def exported(self, target: TargetProfile, form: TargetProfile | None = None) -> Reading:
        """What the export stage of a target reads, or that of another ``form`` of its graph."""
        form = form or target
        read = self._weights(target)
        settings: dict[str, Any] = {
            **read.settings,
            "target": form.as_dict(),
            "accuracy_level": self._accuracy_level(form),
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
        if form.quantized:
            inputs = {**inputs, "quantize": self._plan.quantize_stage(target)}
        return Reading(settings, inputs, {**read.files, **self.read.template()})

    def _weights(self, target: TargetProfile) -> Reading:
        """What a target's stages read: the merged weights, or where adapters are swapped the base alone."""
        return self.read.base_alone if self._plan.swaps(target) else self.read.weights()

    def _accuracy_level(self, target: TargetProfile) -> int:
        if not target.bits:
            return target.accuracy_level
        asked = self._plan.asked(target)
        said = (asked.accuracy_level, self._recipe.quantize.accuracy_level, target.accuracy_level)
        return next(level for level in said if level is not None)

    def add(
        self,
        name: str,
        kind: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        files: Mapping[str, tuple[Path, str]],
        *,
        form: str = "",
        final: Path | None = None,
        how: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a stage of a registered kind, in one of its forms.

        ``how`` are settings that don't change what comes out, and so are no part of its key.
        """
        spec = STAGES[kind]
        identity = {
            "kind": kind,
            "version": spec.version,
            "form": form,
            "settings": settings,
            "inputs": {key: self._plan.stage(stage).key for key, stage in inputs.items()},
            "files": {key: digest for key, (_, digest) in files.items()},
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._plan.stages.append(
            Stage(
                name=name,
                kind=kind,
                # Exporters may come from other packages, and say themselves what carries them out.
                function=spec.functions[form] if spec.functions else find_exporter(form).stage,
                settings={**settings, **(how or {})},
                inputs=inputs,
                files=files,
                key=key,
                final=final or self._plan.run.stage(name, key),
                scratch=self._plan.run.scratch(name, key),
            )
        )

    @property
    def form(self) -> str:
        """The form of stages that are others for encoders."""
        return "" if self._plan.task == GENERATION else ENCODER
