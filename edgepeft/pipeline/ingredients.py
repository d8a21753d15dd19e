"""What the stages of a plan read: settings of the recipe, outputs of earlier stages, files by their content."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from edgepeft.adapters.config import read_adapter_config
from edgepeft.adapters.folder import find_adapter
from edgepeft.adapters.overview import adapter_notes
from edgepeft.adapters.provenance import ASSUMED, read_provenance
from edgepeft.errors import InputError
from edgepeft.models.sentence_files import SENTENCE_FILES
from edgepeft.models.tasks import GENERATION
from edgepeft.models.tokenizer_overlay import BESIDE, VOCABULARY
from edgepeft.pipeline.frozen_base import frozen_base
from edgepeft.pipeline.plan import Plan
from edgepeft.runs.digests import DigestCache

Files = dict[str, tuple[Path, str]]
"""Paths and digests by the name that a stage's job gives them."""


class Reading(NamedTuple):
    """What a stage reads to get at weights; ``inputs`` are names of stages by the job's name for them."""

    settings: dict[str, Any]
    inputs: dict[str, str]
    files: Files


class Ingredients:
    """Answers what stages read; notes on adapters go into the plan's notes on the way."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._recipe = plan.recipe.recipe
        self._digests = DigestCache()

    def save(self) -> None:
        """Keep the digests for the next plan."""
        self._digests.save()

    def model(self) -> Files:
        """The model's folder, or its one GGUF file."""
        path = self._plan.model.path
        if path.is_dir():
            return {"model": (path, self._digests.folder(path, None))}
        return {"model": (path, self._digests.folder(path.parent, [path.name]))}

    def file(self, name: str | None) -> tuple[Path, str]:
        """A file the recipe names. Raises InputError where it cannot be read."""
        assert name is not None
        path = self._plan.recipe.resolve(name)
        try:
            # A folder of rows is all that lies in it.
            digest = self._digests.folder(path) if path.is_dir() else self._digests.file(path)
            return path, digest
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None

    def folder(self, name: str) -> tuple[Path, str]:
        """An adapter's folder that the recipe names."""
        named, path = self._plan.recipe.resolve(name), find_adapter(self._plan.recipe.resolve(name))
        if path != named:
            self._note(
                f"{named.name} holds checkpoints of an adapter; {path.name}, the newest, is taken"
            )
        for note in adapter_notes(path, read_adapter_config(path)):
            self._note(note)
        self._note_provenance(path)
        return path, self._digests.folder(path)

    def own(self) -> Files:
        """What of an adapter's folder the base is staged with."""
        needs = self._plan.needs
        found: Files = {}
        for name, folder, files in (
            ("tokenizer", needs.tokenizer, (*VOCABULARY, *BESIDE)),
            ("sentence", needs.sentence, SENTENCE_FILES),
        ):
            if folder is not None:
                there = [file for file in files if (folder / file).is_file()]
                found[name] = (folder, self._digests.folder(folder, there))
        return found

    def template(self) -> Files:
        """A template that is a file is an input like any other."""
        template = self._recipe.data.template
        return {} if template in ("auto", "chat", "plain") else {"template": self.file(template)}

    def task(self) -> dict[str, str]:
        """The task among a stage's settings; that of a model that generates goes without saying."""
        return {} if self._plan.task == GENERATION else {"task": self._plan.task}

    def data_settings(self, *unread: str) -> dict[str, Any]:
        """How rows are read; files enter by content, and what the stage does not read is left out."""
        # Labels are settled in the base stage, which every other one reads.
        files = {"train", "test", "generic", "labels"}
        return self._recipe.data.model_dump(mode="json", exclude={*files, *unread})

    def merge_settings(self) -> dict[str, Any]:
        """How an adapter is merged."""
        return self._recipe.merge.model_dump(mode="json", exclude={"save"})

    @cached_property
    def base_alone(self) -> Reading:
        """The base without adapters: how it lay while they were trained."""
        frozen = {"hot_swap": {"frozen": frozen_base(self._plan.recipe)}}
        return Reading(frozen, {"base": "base"}, {})

    @cached_property
    def adapted(self) -> Reading:
        """The base and the recipe's adapter, whether it exists, is combined or is trained."""
        settings = {"merge": self.merge_settings()}
        if isinstance(self._recipe.adapter, str):
            return Reading(
                settings, {"base": "base"}, {"adapter": self.folder(self._recipe.adapter)}
            )
        made = "train" if self._recipe.adapter is None else "combine"
        return Reading(settings, {"base": "base", "train": made}, {})

    def weights(self) -> Reading:
        """The merged weights: the merged checkpoint where one is kept, or its ingredients."""
        if any(stage.name == "merge" for stage in self._plan.stages):
            settings = {"merge": self.merge_settings()}
            return Reading(settings, {"base": "base", "merge": "merge"}, {})
        return self.adapted

    def _note_provenance(self, folder: Path) -> None:
        """Say what is assumed of an adapter that does not say what it was trained on."""
        provenance = read_provenance(folder, self._recipe.merge.grid)
        if provenance.source == ASSUMED and self._recipe.merge.base != "original":
            self._note(
                f"{folder.name}: the adapter does not say what it was trained on; NF4 (QLoRA) is assumed. Set "
                "merge.grid: none if it was trained at full precision"
            )
        self._note_name(folder)

    def _note_name(self, folder: Path) -> None:
        """PEFT keeps the name of the base; another name proves nothing, and is worth a word."""
        named = read_adapter_config(folder).get("base_model_name_or_path")
        if not isinstance(named, str) or read_provenance(folder).base is not None:
            return
        own = {self._plan.base_name, self._recipe.model, self._plan.model.path.name}
        short = _last_part(named)
        if short and short not in {_last_part(name) for name in own}:
            self._note(
                f"{folder.name}: the adapter was trained on {named}; check that {self._plan.base_name} is that "
                "model"
            )

    def _note(self, note: str) -> None:
        if note not in self._plan.notes:
            self._plan.notes.append(note)


def _last_part(name: str) -> str:
    """The last part of a path or hub id, for comparing."""
    return name.rstrip("/").rpartition("/")[2].casefold()
