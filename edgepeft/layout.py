"""The stages of a plan: what each reads, and the key that identifies what it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepeft.digests import DigestCache
from edgepeft.errors import InputError
from edgepeft.fidelity.execution import choose_execution
from edgepeft.hot_swap.frozen import frozen_base
from edgepeft.merging.adapter_config import read_adapter_config
from edgepeft.merging.provenance import read_provenance
from edgepeft.quantization.algorithms import is_calibrated, resolve_algorithm
from edgepeft.recipe import FurtherAdapter, Quantize
from edgepeft.runtime.adapters import ADAPTERS
from edgepeft.stage import Stage
from edgepeft.targets import TargetProfile, find_exporter
from edgepeft.tasks import GENERATION

if TYPE_CHECKING:
    from edgepeft.planning import Plan

STAGE_VERSIONS = {
    "base": 1,
    "train": 3,
    "combine": 1,
    "merge": 2,
    "quantize": 7,
    "export": 5,
    "adapt": 1,
    "reference": 4,
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
        self._digests = DigestCache()

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
        self._digests.save()

    def _base(self) -> None:
        model = self._plan.model.path
        names = None if model.is_dir() else [model.name]
        digest = self._digests.folder(model if model.is_dir() else model.parent, names)
        if self._plan.task != GENERATION:
            self._add(
                "base",
                "base",
                "edgepeft.checkpoints.encoder_base:run",
                {**self._task(), "labels": self._plan.labels},
                {},
                {"model": (model, digest)},
            )
            return
        self._add(
            "base",
            "base",
            "edgepeft.checkpoints.base:run",
            {"tokens": self._recipe.data.tokens} if self._recipe.data.tokens else {},
            {},
            {"model": (model, digest)},
        )

    def _combine(self) -> None:
        parts = self._recipe.adapter
        if not isinstance(parts, list):
            return
        folders = [self._plan.recipe.resolve(part.path) for part in parts]
        for folder in folders:
            self._note_provenance(folder)
        self._add(
            "combine",
            "combine",
            "edgepeft.merging.combine_stage:run",
            {
                "combine": {
                    **self._recipe.combine.model_dump(mode="json"),
                    "weights": [part.weight for part in parts],
                },
                "merge": {"allow_base_mismatch": self._recipe.merge.allow_base_mismatch},
            },
            {"base": "base"},
            {
                f"adapter-{index}": (folder, self._digests.folder(folder))
                for index, folder in enumerate(folders)
            },
        )

    def _train(self) -> None:
        if self._recipe.adapter is not None:
            return
        data = self._recipe.data
        files = {"train": self._file(data.train)}
        if data.test is not None and self._recipe.training.eval_rows:
            files["test"] = self._file(data.test)
        settings = {
            **self._task(),
            "method": self._recipe.method.model_dump(mode="json"),
            "training": self._recipe.training.model_dump(mode="json"),
            "data": self._data_settings("max_test_rows"),
            "base_name": self._plan.base_name,
        }
        self._add(
            "train",
            "train",
            "edgepeft.training.stage:run",
            settings,
            {"base": "base"},
            {**files, **self._template()},
        )

    def _merge(self) -> None:
        needed = any(not self._plan.swaps(target) for target in self._plan.targets)
        if (self._recipe.merge.save and needed) or self._until == "merge":
            self._add(
                "merge",
                "merge",
                "edgepeft.merging.stage:run",
                {"merge": self._merge_settings()},
                self._trained(),
                self._adapter_files(),
            )

    def _quantize(self) -> None:
        lossless = {
            self._plan.quantize_stage(target): self._plan.swaps(target)
            for target in self._plan.targets
            if target.precision == "nf4"
        }
        for stage, swapped in sorted(lossless.items()):
            self._add(
                stage,
                "quantize",
                "edgepeft.quantization.lossless:run",
                self._base_settings() if swapped else {"merge": self._merge_settings()},
                {"base": "base"} if swapped else self._trained(),
                {} if swapped else self._adapter_files(),
            )
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
        swapped = self._plan.swaps(target)
        settings: dict[str, Any] = {
            **(self._base_settings() if swapped else {"merge": self._merge_settings()}),
            "quantize": {
                **quantize.model_dump(
                    mode="json", exclude={"accuracy_level", "calibration"}, exclude_none=True
                ),
                "algorithm": name,
            },
            "bits": bits,
        }
        inputs, files = ({"base": "base"}, {}) if swapped else self._weights()
        if quantize.budget is not None:
            levels = [
                self._accuracy_level(one)
                for one in self._plan.targets
                if one.bits and self._plan.quantize_stage(one) == stage
            ]
            settings["eight_bit_inputs"] = any(level == 4 for level in levels)
        if is_calibrated(name) or quantize.budget is not None:
            settings |= self._task()
            settings["data"] = self._data_settings("max_length", "max_test_rows")
            settings["quantize"]["calibration"] = quantize.calibration.model_dump(
                mode="json", exclude={"text"}
            )
            files = {**files, **self._template()}
            if self._recipe.data.train is not None:
                files["calibration_rows"] = self._file(self._recipe.data.train)
            if quantize.calibration.text is not None:
                files["calibration_text"] = self._file(quantize.calibration.text)
        self._add(stage, "quantize", "edgepeft.quantization.stage:run", settings, inputs, files)

    def _base_settings(self) -> dict[str, Any]:
        """What a stage needs to know of a base without adapters: how it lay while they were trained."""
        return {"hot_swap": {"frozen": frozen_base(self._plan.recipe)}}

    def _adapt(self, target: TargetProfile) -> None:
        """Put the recipe's own adapter and the further ones into a hot-swap bundle."""
        bundle = self._plan.stage(f"export-{target.name}")
        own = (self._plan.recipe.adapter_name, self._trained(), self._adapter_files())
        further = [
            (adapter.name, {"base": "base"}, self._further_files(adapter))
            for adapter in self._recipe.adapters
        ]
        for name, inputs, files in (own, *further):
            self._add(
                f"adapt-{target.name}-{name}",
                "adapt",
                "edgepeft.hot_swap.stage:run",
                {"merge": self._merge_settings(), "name": name},
                {**inputs, "bundle": bundle.name},
                files,
                final=bundle.final / ADAPTERS / name,
            )

    def _further_files(self, adapter: FurtherAdapter) -> dict[str, tuple[Path, str]]:
        folder = self._plan.recipe.resolve(adapter.path)
        self._note_provenance(folder)
        return {"adapter": (folder, self._digests.folder(folder))}

    def _export(self) -> None:
        for target in self._plan.targets:
            (asked,) = (one for one in self._recipe.targets if one.name == target.name)
            swapped = self._plan.swaps(target)
            settings: dict[str, Any] = {
                "merge": self._merge_settings(),
                "target": target.as_dict(),
                "accuracy_level": self._accuracy_level(target),
                "template": self._recipe.data.template,
                "base_name": self._plan.base_name,
            }
            inputs, files = self._weights() if not swapped else ({"base": "base"}, {})
            if swapped:
                del settings["merge"]
                settings["hot_swap"] = {
                    "frozen": frozen_base(self._plan.recipe),
                    "rank": asked.adapter_rank,
                    "modules": asked.adapter_modules,
                }
            if target.quantized:
                inputs = {**inputs, "quantize": self._plan.quantize_stage(target)}
            self._add(
                f"export-{target.name}",
                "export",
                find_exporter(target.exporter).stage,
                settings,
                inputs,
                {**files, **self._template()},
                final=None if self._bundles_apart else self._plan.run.bundle(target.name),
            )
            if swapped:
                self._adapt(target)

    def _accuracy_level(self, target: TargetProfile) -> int:
        if not target.bits:
            return target.accuracy_level
        (asked,) = (one for one in self._recipe.targets if one.name == target.name)
        said = (asked.accuracy_level, self._recipe.quantize.accuracy_level, target.accuracy_level)
        return next(level for level in said if level is not None)

    def _reference(self) -> None:
        self._refer("reference", self._recipe.data.test, self._trained(), self._adapter_files())
        for adapter in self._recipe.adapters:
            test = adapter.test or self._recipe.data.test
            files = self._further_files(adapter)
            self._refer(f"reference-{adapter.name}", test, {"base": "base"}, files)

    def _refer(
        self,
        name: str,
        test: str | None,
        inputs: Mapping[str, str],
        adapter: Mapping[str, tuple[Path, str]],
    ) -> None:
        files = {"test": self._file(test)}
        if self._recipe.data.generic is not None:
            files["generic"] = self._file(self._recipe.data.generic)
        self._add(
            name,
            "reference",
            self._by_task(
                "edgepeft.fidelity.reference:run", "edgepeft.fidelity.encoders:reference"
            ),
            {
                **self._task(),
                "merge": {
                    "base": "dequantized",
                    "grid": self._recipe.merge.grid,
                    "allow_base_mismatch": self._recipe.merge.allow_base_mismatch,
                },
                "data": self._data_settings("max_length"),
            },
            inputs,
            {**files, **adapter, **self._template()},
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
    ) -> None:
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
                settings=settings,
                inputs=inputs,
                files=files,
                key=key,
                final=final or self._plan.run.stage(name, key),
                scratch=self._plan.run.scratch(name, key),
            )
        )

    def _file(self, name: str | None) -> tuple[Path, str]:
        assert name is not None
        path = self._plan.recipe.resolve(name)
        try:
            return path, self._digests.file(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None

    def _task(self) -> dict[str, str]:
        """The task among a stage's settings; that of a model that generates goes without saying."""
        return {} if self._plan.task == GENERATION else {"task": self._plan.task}

    def _by_task(self, generation: str, encoder: str) -> str:
        return generation if self._plan.task == GENERATION else encoder

    def _template(self) -> dict[str, tuple[Path, str]]:
        """A template that is a file is an input like any other."""
        template = self._recipe.data.template
        return {} if template in ("auto", "chat", "plain") else {"template": self._file(template)}

    def _data_settings(self, *unread: str) -> dict[str, Any]:
        """How rows are read; files enter by content, and what the stage does not read is left out."""
        # Labels are settled in the base stage, which every other one reads.
        files = {"train", "test", "generic", "labels"}
        return self._recipe.data.model_dump(mode="json", exclude={*files, *unread})

    def _merge_settings(self) -> dict[str, Any]:
        return self._recipe.merge.model_dump(mode="json", exclude={"save"})

    def _trained(self) -> dict[str, str]:
        if self._plan.adapter is not None:
            return {"base": "base"}
        if self._recipe.adapter is not None:
            return {"base": "base", "train": "combine"}
        return {"base": "base", "train": "train"}

    def _adapter_files(self) -> dict[str, tuple[Path, str]]:
        folder = self._plan.adapter
        if folder is None:
            return {}
        self._note_provenance(folder)
        return {"adapter": (folder, self._digests.folder(folder))}

    def _note_provenance(self, folder: Path) -> None:
        """Say what is assumed of an adapter that does not say what it was trained on."""
        provenance = read_provenance(folder, self._recipe.merge.grid)
        if provenance.source == "assumed" and self._recipe.merge.base != "original":
            note = (
                f"{folder.name} does not say what it was trained on; taking NF4 (QLoRA). Set merge.grid: "
                "none if it was trained at full precision"
            )
            if note not in self._plan.notes:
                self._plan.notes.append(note)
        self._note_name(folder)

    def _note_name(self, folder: Path) -> None:
        """PEFT keeps the name of the base; another name proves nothing, and is worth a word."""
        named = read_adapter_config(folder).get("base_model_name_or_path")
        if not isinstance(named, str) or read_provenance(folder).base is not None:
            return
        own = {self._plan.base_name, self._plan.recipe.recipe.model, self._plan.model.path.name}
        short = named.rstrip("/").rpartition("/")[2].casefold()
        if short and short not in {name.rstrip("/").rpartition("/")[2].casefold() for name in own}:
            note = f"{folder.name} was trained on {named}; make sure that {self._plan.base_name} is that model"
            if note not in self._plan.notes:
                self._plan.notes.append(note)

    def _weights(self) -> tuple[dict[str, str], dict[str, tuple[Path, str]]]:
        """What a stage that reads the merged weights depends on: the merged checkpoint, or its ingredients."""
        if any(stage.name == "merge" for stage in self._plan.stages):
            return {"base": "base", "merge": "merge"}, {}
        return self._trained(), self._adapter_files()
