"""Settings and results of the export stage, and of the adapt stage that puts adapters into what it made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgepeft.bundle.layout import LayoutName
from edgepeft.config.sections import Merge
from edgepeft.merging.settings import AdapterSettings
from edgepeft.models.scoring import Scoring
from edgepeft.models.sentence_files import Pooling
from edgepeft.models.tasks import GENERATION, Task
from edgepeft.stages.job import StageResult, StageSettings
from edgepeft.targets import TargetProfile


class ExportSettings(AdapterSettings):
    """What a bundle is made for; with ``frozen`` the base alone, with slots for adapters of at most
    ``adapter_rank`` on ``adapter_modules``.

    ``accuracy_level`` is that of integer products, ``template`` a mode's name or a file's, ``control_tokens``
    says what text that looks like a control token is, and ``base_name`` is what the bundle calls its base.
    """

    target: TargetProfile
    accuracy_level: int = 0
    template: str = "auto"
    control_tokens: Literal["text", "tokens"] = "text"
    base_name: str = ""
    layout: LayoutName = "all"
    adapter_rank: int = 64
    adapter_modules: str | tuple[str, ...] = "all-linear"


class VirtualTokens(StageResult):
    """The ids of tokens that stand for learned vectors, behind the tokenizer's own."""

    first: int
    count: int


class PromptFacts(StageResult):
    """How prompts are made: by a chat template of this hash or as plain text, ended by these ids of a vocabulary
    of so many, with look-alikes of control tokens as text or not.
    """

    mode: Literal["chat", "plain"]
    template_sha256: str | None
    stop_ids: tuple[int, ...]
    vocab_size: int
    control_tokens: Literal["text", "tokens"]


class ExportResult(StageResult):
    """What a runtime and the report need to know of a bundle.

    ``operators`` counts the graph's operators that hold rounded weights; ``rotary_switch`` is the prompt's length
    where rotary factors change, ``answer_schema`` the file that bounds answers by default, ``inside`` the larger
    model whose language model this is. A graph that ``keeps_states`` can't go back to an earlier token. Models
    that generate have ``prompt`` and maybe ``virtual_tokens``, encoders ``labels``, ``pooling`` or ``scoring``;
    ``paired`` ones read two texts, told apart by ``token_types``.
    """

    target: str
    task: Task = GENERATION
    model_file: str
    provider: str
    verify_provider: str
    base: str
    layout: LayoutName
    runtimes: tuple[str, ...]
    session_options: dict[str, str]
    vocab_size: int
    context_length: int
    accuracy_level: int | None
    operators: dict[str, int]
    exporter: str
    control_tokens: Literal["text", "tokens"] = "text"
    prompt: PromptFacts | None = None
    virtual_tokens: VirtualTokens | None = None
    rotary_switch: int | None = None
    keeps_states: bool = False
    answer_schema: str | None = None
    labels: tuple[str, ...] = ()
    pooling: Pooling | None = None
    inside: str | None = None
    paired: bool = False
    token_types: bool = False
    scoring: Scoring | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON form; bundles leave out what says nothing of their kind of model."""
        written = self.model_dump(mode="json", exclude_unset=True)
        for key in (
            *("virtual_tokens", "rotary_switch", "answer_schema", "inside", "keeps_states"),
            *("paired", "token_types", "scoring"),
        ):
            if not written.get(key):
                written.pop(key, None)
        return written


class AdaptSettings(StageSettings):
    """How an adapter is made out, and its name in the bundle."""

    merge: Merge = Field(default_factory=Merge)
    name: str


class AdaptResult(StageResult):
    """What an adapter's manifest keeps of it.

    ``binding`` ties it to the bundle's base; ``known_from`` says where ``trained_on`` was read, and ``same_base``
    whether the bundle serves it on just that.
    """

    adapter: str
    binding: str
    rank: int
    alpha: int | float | None
    modules: int
    parameters: int
    trained_on: str
    known_from: str
    served_on: str
    same_base: bool
