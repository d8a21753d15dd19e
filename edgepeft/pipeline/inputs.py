"""What the stages of a plan read: files by their content, outputs of earlier stages, the weights to work on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from edgepeft.adapters.header import AdapterHeader
from edgepeft.config.sections import Data, Merge, Section
from edgepeft.data.template_modes import TEMPLATE_WORDS
from edgepeft.errors import InputError
from edgepeft.merging.settings import FrozenBase
from edgepeft.models.sentence_files import sentence_files
from edgepeft.models.tasks import GENERATION
from edgepeft.models.tokenizer_overlay import BESIDE, VOCABULARY
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.runs.digests import DigestCache
from edgepeft.runs.folder import RunFolder

Files = dict[str, tuple[Path, str]]
"""Paths and digests by the name that a stage's job gives them."""

ENCODER = "encoder"
"""The form of stages that are others for encoders."""

_S = TypeVar("_S", bound=Section)


def at_default(section: _S, *keys: str) -> _S:
    """A section with keys at their defaults that the reader passes over, so that they don't change its key."""
    fields = type(section).model_fields
    unread = {key: fields[key].get_default(call_default_factory=True) for key in keys}
    return section.model_copy(update=unread)


class Weights(NamedTuple):
    """What a stage reads of weights: base and adapter merged as ``merge`` says, or a ``frozen`` base alone.

    ``inputs`` are names of stages by the job's name for them.
    """

    merge: Merge
    frozen: FrozenBase | None
    inputs: dict[str, str]
    files: Files


class Further(NamedTuple):
    """An adapter that goes into hot-swap bundles beside the recipe's own, and the rows it is measured on."""

    name: str
    test: str | None
    """A file of its own, None for the recipe's rows."""
    weights: Weights


class Inputs:
    """Answers what the stages of a build read, which stops at those of kind ``until``.

    ``planned`` holds the stages so far, and where each leaves its output; ``notes`` is what is worth a word.
    """

    def __init__(
        self, resolved: ResolvedRecipe, run: RunFolder, *, until: str, bundles_apart: bool
    ) -> None:
        self.until = until
        self.planned: dict[str, Path] = {}
        self.notes: list[str] = []
        self.form = "" if resolved.task == GENERATION else ENCODER
        self._resolved = resolved
        self._run = run
        self._bundles_apart = bundles_apart
        self._digests = DigestCache()

    def note(self, note: str) -> None:
        """Say something once before the build begins."""
        if note not in self.notes:
            self.notes.append(note)

    def bundle(self, target: str) -> Path | None:
        """Where a target's bundle goes; None where bundles lie among the stages, each under its key."""
        return None if self._bundles_apart else self._run.bundle(target)

    @property
    def tracking(self) -> Path:
        """Where trackers keep their files."""
        return self._run.tracking

    def save(self) -> None:
        """Keep the digests for the next plan."""
        self._digests.save()

    def model(self) -> Files:
        """The model's folder, or its one GGUF file."""
        path = self._resolved.model.path
        if path.is_dir():
            return {"model": (path, self._digests.folder(path, further=sentence_files(path)))}
        return {"model": (path, self._digests.folder(path.parent, [path.name]))}

    def file(self, name: str | None) -> tuple[Path, str]:
        """A file the recipe names. Raises InputError where it cannot be read."""
        assert name is not None
        path = self._resolved.file.resolve(name)
        try:
            # A folder of rows is all that lies in it.
            digest = self._digests.folder(path) if path.is_dir() else self._digests.file(path)
            return path, digest
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None

    def adapter(self, header: AdapterHeader) -> tuple[Path, str]:
        """An adapter's folder that the recipe names."""
        names = {self._resolved.recipe.model, self._resolved.model.path.name}
        # What a base was rounded to before it came is known.
        rounded = (
            self._resolved.recipe.merge.base != "original" and self._resolved.given.rounded is None
        )
        for note in header.notes(self._resolved.base_name, names, rounded=rounded):
            self.note(note)
        return header.path, self._digests.folder(header.path)

    def tested(self, own: str | None) -> tuple[Data, Files]:
        """Rows that a model is measured on, ``own`` ones or the recipe's, and how they are read.

        With them the recipe's generic text, and the template of prompts.
        """
        data = self._resolved.recipe.data
        files = {"test": self.file(own or data.test_file), **self.template()}
        if data.generic is not None:
            files["generic"] = self.file(data.generic)
        unread = ("test", "split_seed", "max_length") if own is not None else ("max_length",)
        return self.data(*unread), files

    def own(self) -> Files:
        """What of an adapter's folder the base is staged with."""
        needs = self._resolved.needs
        found: Files = {}
        if needs.tokenizer is not None:
            files = (*VOCABULARY, *BESIDE)
            there = [file for file in files if (needs.tokenizer / file).is_file()]
            found["tokenizer"] = (needs.tokenizer, self._digests.folder(needs.tokenizer, there))
        if needs.sentence is not None:
            there = sentence_files(needs.sentence)
            found["sentence"] = (needs.sentence, self._digests.folder(needs.sentence, there))
        return found

    def template(self) -> Files:
        """A template that is a file is an input like any other."""
        template = self._resolved.recipe.data.template
        return {} if template in TEMPLATE_WORDS else {"template": self.file(template)}

    def answer(self) -> Files:
        """The schema of answers is a file that enters by content, too."""
        schema = self._resolved.answer_file
        return {} if schema is None else {"answer_schema": self.file(str(schema))}

    def data(self, *unread: str) -> Data:
        """How rows are read; files enter by content, and labels are settled in the base stage."""
        data = self._resolved.recipe.data
        return at_default(data, *data.elsewhere, *unread)

    def merge(self) -> Merge:
        """How an adapter is merged."""
        return at_default(self._resolved.recipe.merge, "save")

    def base_alone(self) -> Weights:
        """The base without adapters: how it lay while they were trained."""
        return Weights(Merge(), self._resolved.frozen, {"base": "base"}, {})

    @cached_property
    def adapted(self) -> Weights:
        """The base and the recipe's adapter, whether it exists, is combined or is trained."""
        if self._resolved.adapter is not None:
            return self._given(self._resolved.adapter)
        made = "train" if self._resolved.trains else "combine"
        return Weights(self.merge(), None, {"base": "base", "train": made}, {})

    @cached_property
    def further(self) -> tuple[Further, ...]:
        """The further adapters, each on the base."""
        recipe = self._resolved.recipe
        return tuple(
            Further(adapter.name, adapter.test, self._given(header))
            for adapter, header in zip(recipe.adapters, self._resolved.further, strict=True)
        )

    def weights(self, target: ResolvedTarget) -> Weights:
        """What a target's stages read: the merged checkpoint where one is kept, else its ingredients, or where
        adapters are swapped the base alone.
        """
        if target.swaps:
            return self.base_alone()
        if "merge" in self.planned:
            return Weights(self.merge(), None, {"base": "base", "merge": "merge"}, {})
        return self.adapted

    def _given(self, header: AdapterHeader) -> Weights:
        """The base and an adapter that exists."""
        return Weights(self.merge(), None, {"base": "base"}, {"adapter": self.adapter(header)})
