"""What the base stage reads and what it says of its output, of models that generate and of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgepeft.models.scoring import Scoring
from edgepeft.models.sentence_files import Pooling
from edgepeft.models.tasks import ENCODER_TASKS, GENERATION, Task
from edgepeft.runs.folder import read_manifest
from edgepeft.stages.job import StageResult, StageSettings


class BaseSettings(StageSettings):
    """How a model is staged.

    ``tokens`` are added to the tokenizer; ``rows`` is the vocabulary's height where an adapter brings another;
    with ``own_head`` the head is stored apart from the embedding. ``labels`` are a classifier's, ``scoring`` a
    ranker's; ``paired`` says whether an encoder reads two texts together.
    """

    task: Task = GENERATION
    labels: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    rows: int | None = None
    own_head: bool = False
    paired: bool = False
    scoring: Scoring | None = None


class BaseResult(StageResult):
    """What later stages need to know of a staged base.

    ``weights`` is the checkpoint's folder, ``.`` for the stage's own; ``dropped`` are its tensors that the model
    does not need; ``rows`` is the vocabulary's height where that is not the model's own; ``renamed`` says whether
    tensors have names in the model's files that transformers does not know. ``inside`` is the architecture of
    the larger model that this is the language model of. ``fingerprints`` are of the model as it was given and as
    it fits, before rows or head change. ``new_modules`` were made for the task and are trained whole.
    ``quantization`` is the format in which the model came rounded, None where it did not, and ``on_grid`` names
    the weights that were; ``grid`` is nf4 or fp4, in blocks of ``block_size``, where that is their grid.
    """

    weights: str = "."
    architecture: str = ""
    dropped: tuple[str, ...] = ()
    rows: int | None = None
    renamed: bool = False
    inside: str | None = None
    fingerprints: tuple[str, ...] = ()
    new_modules: tuple[str, ...] = ()
    quantization: str | None = None
    on_grid: tuple[str, ...] = ()
    grid: str | None = None
    block_size: int = 64

    @property
    def seen_grid(self) -> Literal["auto", "none"]:
        """What ``merge.grid`` is where nobody says it: adapters saw a base that came rounded as it came, but for
        the grids that training rounds to itself.
        """
        return "none" if self.quantization is not None and self.grid is None else "auto"


class EncoderFacts(BaseResult):
    """The same of an encoder.

    ``context_length`` counts the tokens of a text, its special ones included; ``pooled_by`` is the folder whose
    sentence-transformers files say how vectors are pooled. ``paired`` texts are read two together, and
    ``token_types`` says whether the model is told which token is of which.
    """

    task: Task
    labels: tuple[str, ...]
    context_length: int
    pooling: Pooling | None
    pooled_by: str = ""
    paired: bool = False
    token_types: bool = False
    scoring: Scoring | None = None

    @property
    def outputs(self) -> int | None:
        """How many numbers the head gives of a text or a token; None where there is no head."""
        if not ENCODER_TASKS[self.task].has_head:
            return None
        return len(self.labels) or 1


def base_facts(base: Path) -> BaseResult:
    """What a finished base stage says of itself; a model's own folder is a base as it is."""
    return BaseResult() if read_manifest(base) is None else BaseResult.read(base)
