"""From a recipe to the stages that carry it out, each with the key that identifies its output.

Everything that can be checked without heavy libraries is checked here, before anything long begins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.data.formats import read_rows
from edgepeft.data.rows import Row
from edgepeft.digests import DigestCache
from edgepeft.errors import InputError
from edgepeft.merging.adapter_config import read_adapter_config, refuse_head
from edgepeft.merging.combinations import Combination, check_combination
from edgepeft.merging.provenance import read_provenance
from edgepeft.models import ModelInfo, find_model, inspect_model
from edgepeft.quantization.algorithms import check_algorithm, is_calibrated, resolve_algorithm
from edgepeft.recipe_file import RecipeFile
from edgepeft.requirements import require_libraries
from edgepeft.stage import Stage
from edgepeft.targets import TargetProfile, find_exporter, find_target
from edgepeft.training.methods import check_method, trains_rows
from edgepeft.workspace import RunFolder

STAGE_VERSIONS = {
    "base": 1,
    "train": 3,
    "combine": 1,
    "merge": 2,
    "quantize": 4,
    "export": 4,
    "reference": 4,
    "verify": 1,
}
"""Raised when a stage's output changes for the same inputs, so that old outputs are not reused."""

ORDER = tuple(STAGE_VERSIONS)
_PLAIN_STARTS = ("gaussian", "orthogonal")


@dataclass
class Plan:
    """The stages of a recipe in order, and what was learned of its inputs on the way."""

    recipe: RecipeFile
    run: RunFolder
    model: ModelInfo
    base_name: str
    targets: list[TargetProfile]
    train_rows: list[Row]
    test_rows: list[Row]
    adapter: Path | None
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def stage(self, name: str) -> Stage:
        """A stage of the plan by name."""
        return next(stage for stage in self.stages if stage.name == name)

    def kind(self, kind: str) -> list[Stage]:
        """The stages of one kind."""
        return [stage for stage in self.stages if stage.kind == kind]


def make_plan(
    recipe: RecipeFile, run: RunFolder, *, until: str = "verify", bundles_apart: bool = False
) -> Plan:
    """Check a recipe's inputs and lay out its stages up to ``until``. Raises InputError, MissingError.

    With ``bundles_apart`` bundles go among the stages, each under its key, so that several for one target live
    side by side and the run's own stay as they are.
    """
    settings = recipe.recipe
    kinds = ORDER[: ORDER.index(until) + 1]
    require_libraries(kind for kind in kinds if kind != "train" or settings.adapter is None)
    _check_combination(recipe)
    targets = [find_target(target.name) for target in settings.targets]
    check_algorithm(settings.quantize.algorithm)
    if settings.adapter is None:
        _check_training(recipe)
    for target in targets:
        _check_target(target, recipe)
    path = find_model(settings.model, recipe.folder)
    model = inspect_model(path)
    for name in {target.exporter for target in targets}:
        refusal = find_exporter(name).refuses(model)
        if refusal:
            raise InputError(f"model: {settings.model}: {refusal}")
    _check_budget(settings.quantize.max_bytes, targets, model)
    adapter = _adapter(recipe)
    train, test = _rows(recipe, until)
    named = recipe.resolve(settings.model) != path
    plan = Plan(
        recipe=recipe,
        run=run,
        model=model,
        base_name=settings.model if named else path.name,
        targets=targets,
        train_rows=train,
        test_rows=test,
        adapter=adapter,
    )
    _Layout(plan, until, bundles_apart).lay_out()
    return plan


def _check_training(recipe: RecipeFile) -> None:
    """Hold method and objective against what they can do, before anything is loaded."""
    settings = recipe.recipe
    method = check_method(settings.method.model_dump(mode="json"))
    refuse_head(settings.method.target_modules, "method.target_modules")
    if settings.data.tokens and not trains_rows(method, settings.method.options):
        raise InputError(
            f"data.tokens: {method.name} would leave their embeddings as they begin; use lora, qlora, dora or "
            "trainable_tokens, or name embed_tokens in method.options.modules_to_save"
        )
    start = settings.method.options.get("init_lora_weights")
    if settings.training.objective == "preference" and (
        method.peft_type != "LORA" or (isinstance(start, str) and start not in _PLAIN_STARTS)
    ):
        raise InputError(
            "training.objective: preference compares with the untouched base, which LoRA leaves as it is; choose "
            "lora, qlora, rslora or dora without another start"
        )


def _check_target(target: TargetProfile, recipe: RecipeFile) -> None:
    quantize = recipe.recipe.quantize
    if target.bits and quantize.block_size not in target.block_sizes:
        sizes = ", ".join(map(str, target.block_sizes))
        raise InputError(
            f"quantize.block_size: {quantize.block_size} is not among those of {target.name}: {sizes}"
        )
    if target.precision == "nf4" and recipe.recipe.merge.base != "dequantized":
        raise InputError(
            f"merge.base: {target.name} carries the base the adapter was trained on; set it to dequantized"
        )
    if quantize.algorithm == "k_quant" and quantize.symmetric:
        raise InputError("quantize.symmetric: k_quant has no symmetric form; set it to false")


def _check_budget(budget: int | None, targets: list[TargetProfile], model: ModelInfo) -> None:
    """Refuse what no choice of grids can reach, before anything is trained."""
    if budget is None:
        return
    for target in targets:
        if target.precision != "int4":
            raise InputError(
                f"quantize.max_bytes: chooses among 4 and 8 bits, and {target.name} has a precision of its own; "
                "name int4 targets only"
            )
    # Four bits, and half-precision scales with zero points over blocks of 128.
    least = int(model.parameters * (0.5 + 2.5 / 128))
    if budget < least:
        raise InputError(
            f"quantize.max_bytes: {budget} is out of reach; 4-bit weights alone take {least} bytes"
        )


def _check_combination(recipe: RecipeFile) -> None:
    """Hold a list of adapters and the combine section against each other."""
    parts, combine = recipe.recipe.adapter, recipe.recipe.combine
    if isinstance(parts, list):
        how = Combination(
            combine.method, tuple(part.weight for part in parts), combine.density, combine.rank
        )
        try:
            check_combination(how, len(parts))
        except InputError as error:
            raise InputError(str(error).replace("--", "combine.")) from None
        for part in parts:
            read_adapter_config(recipe.resolve(part.path))


def _adapter(recipe: RecipeFile) -> Path | None:
    if not isinstance(recipe.recipe.adapter, str):
        return None
    folder = recipe.resolve(recipe.recipe.adapter)
    read_adapter_config(folder)
    return folder


def _rows(recipe: RecipeFile, until: str) -> tuple[list[Row], list[Row]]:
    data = recipe.recipe.data
    needs_train = recipe.recipe.adapter is None
    needs_test = ORDER.index(until) >= ORDER.index("reference")
    if needs_train and data.train is None:
        raise InputError(
            "data.train: this key is required to train an adapter (or name an adapter)"
        )
    if needs_test and data.test is None:
        raise InputError("data.test: this key is required to measure a bundle")

    def read(name: str | None) -> list[Row]:
        if name is None:
            return []
        path = recipe.resolve(name)
        return read_rows(path, columns=data.columns, shape=data.shape, system=data.system)

    return read(data.train), read(data.test)


class _Layout:
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
        if self._recipe.merge.save or self._until == "merge":
            self._add(
                "merge",
                "merge",
                "edgepeft.merging.stage:run",
                {"merge": self._merge_settings()},
                self._trained(),
                self._adapter_files(),
            )

    def _quantize(self) -> None:
        quantize = self._recipe.quantize
        if any(target.precision == "nf4" for target in self._plan.targets):
            self._add(
                "quantize-nf4",
                "quantize",
                "edgepeft.quantization.lossless:run",
                {"merge": self._merge_settings()},
                self._trained(),
                self._adapter_files(),
            )
        for bits in sorted({target.bits for target in self._plan.targets if target.bits}):
            name = resolve_algorithm(quantize.algorithm, bits)
            settings: dict[str, Any] = {
                "merge": self._merge_settings(),
                "quantize": {
                    **quantize.model_dump(
                        mode="json", exclude={"accuracy_level", "calibration"}, exclude_none=True
                    ),
                    "algorithm": name,
                },
                "bits": bits,
            }
            inputs, files = self._weights()
            if is_calibrated(name) or quantize.max_bytes is not None:
                settings["data"] = self._data_settings("max_length", "max_test_rows")
                settings["quantize"]["calibration"] = quantize.calibration.model_dump(
                    mode="json", exclude={"text"}
                )
                files = {**files, **self._template()}
                if self._recipe.data.train is not None:
                    files["calibration_rows"] = self._file(self._recipe.data.train)
                if quantize.calibration.text is not None:
                    files["calibration_text"] = self._file(quantize.calibration.text)
            self._add(
                f"quantize-int{bits}",
                "quantize",
                "edgepeft.quantization.stage:run",
                settings,
                inputs,
                files,
            )

    def _export(self) -> None:
        for target in self._plan.targets:
            chosen = self._recipe.quantize.accuracy_level if target.bits else None
            settings = {
                "merge": self._merge_settings(),
                "target": target.as_dict(),
                "accuracy_level": target.accuracy_level if chosen is None else chosen,
                "template": self._recipe.data.template,
                "base_name": self._plan.base_name,
            }
            inputs, files = self._weights()
            if target.quantized:
                inputs = {**inputs, "quantize": f"quantize-{target.precision}"}
            self._add(
                f"export-{target.name}",
                "export",
                find_exporter(target.exporter).stage,
                settings,
                inputs,
                {**files, **self._template()},
                bundle=target.name,
            )

    def _reference(self) -> None:
        files = {"test": self._file(self._recipe.data.test)}
        if self._recipe.data.generic is not None:
            files["generic"] = self._file(self._recipe.data.generic)
        self._add(
            "reference",
            "reference",
            "edgepeft.fidelity.reference:run",
            {
                "merge": {
                    "base": "dequantized",
                    "grid": self._recipe.merge.grid,
                    "allow_base_mismatch": self._recipe.merge.allow_base_mismatch,
                },
                "data": self._data_settings("max_length"),
            },
            self._trained(),
            {**files, **self._adapter_files(), **self._template()},
        )

    def _verify(self) -> None:
        for target in self._plan.targets:
            self._add(
                f"verify-{target.name}",
                "verify",
                "edgepeft.fidelity.verify:run",
                {"verify_provider": target.verify_provider},
                {"bundle": f"export-{target.name}", "reference": "reference", "base": "base"},
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
        bundle: str | None = None,
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
        final = self._plan.run.stage(name, key)
        if bundle is not None and not self._bundles_apart:
            final = self._plan.run.bundle(bundle)
        self._plan.stages.append(
            Stage(
                name=name,
                kind=kind,
                function=function,
                settings=settings,
                inputs=inputs,
                files=files,
                key=key,
                final=final,
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

    def _template(self) -> dict[str, tuple[Path, str]]:
        """A template that is a file is an input like any other."""
        template = self._recipe.data.template
        return {} if template in ("auto", "chat", "plain") else {"template": self._file(template)}

    def _data_settings(self, *unread: str) -> dict[str, Any]:
        """How rows are read; files enter by content, and what the stage does not read is left out."""
        files = {"train", "test", "generic"}
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
