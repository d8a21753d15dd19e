"""What rows and messages may hold: every field that is known, and what becomes of it.

A field is used, says nothing of what is learned, is left out with a warning, or is refused because leaving it
out would train something else. Whatever is not listed is left out with a warning that names it. Names are those
of TRL, transformers' chat templates, OpenAI's fine-tuning files, and of Alpaca, ShareGPT and preference data as
they are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Use(StrEnum):
    """What becomes of a field."""

    used = "used"
    harmless = "harmless"
    unused = "unused"
    refused = "refused"


@dataclass(frozen=True)
class Field:
    """A known field. ``why`` says why it is not used or refused, ``mend`` what to do about it.

    A refused one is refused where it holds something, or where ``refuses`` says so of its value.
    """

    use: Use
    why: str = ""
    mend: str = ""
    refuses: Callable[[Any], bool] | None = None


def says_nothing(value: Any) -> bool:
    """Whether a value is as good as none: Parquet and pandas give every row every column."""
    return value is None or value in ("", [], {}) or value != value


def _no(value: Any) -> bool:
    """Whether a value says no, in any of the ways that files have."""
    return value in (False, 0) or (
        isinstance(value, str) and value.strip().lower() in ("false", "0", "no")
    )


def _all(field: Field, names: str) -> dict[str, Field]:
    return dict.fromkeys(names.split(), field)


_USED = Field(Use.used)
_HARMLESS = Field(Use.harmless)
_CALLS_OF_ROWS = Field(
    Use.refused,
    "what is called belongs to a message",
    'put it into an assistant\'s turn, as {"role": "assistant", "tool_calls": […]}',
)
_TOOLS_OF_MESSAGES = Field(
    Use.refused,
    "what may be called belongs to a row",
    "put it into a column tools beside the messages",
)
_MEDIA = Field(Use.refused, "edgepeft learns from text alone", "take the rows out, or the field")
_TOKENS = Field(Use.unused, "edgepeft makes tokens of the texts itself")
_MASKS = Field(
    Use.refused,
    "it says which tokens are learned, and edgepeft goes by turns",
    "drop it, and give turns that are not to be learned weight: 0",
)
_ALIKE = Field(Use.unused, "every row counts the same")
_CHANNELS = Field(
    Use.refused,
    "turns of several channels or for other receivers than the user can't be learned yet",
    "take the rows out, or keep the turns of the final channel without the field",
)

COLUMNS: dict[str, Field] = {
    **_all(
        _USED, "messages conversations prompt completion instruction output input system history"
    ),
    **_all(
        _USED,
        "chosen rejected text text_pair label tokens tags anchor positive negative query passage",
    ),
    **_all(_USED, "tools functions"),
    **_all(_CALLS_OF_ROWS, "tool_calls function_call"),
    **_all(_MEDIA, "image images video videos audio audios"),
    **_all(
        _TOKENS,
        "input_ids attention_mask token_type_ids position_ids seq_lengths prompt_ids completion_ids",
    ),
    **_all(
        _TOKENS, "chosen_ids rejected_ids chosen_input_ids rejected_input_ids KL_completion_ids"
    ),
    **_all(_MASKS, "completion_mask assistant_masks"),
    "labels": Field(
        Use.refused,
        "it is no list of labels or token ids that edgepeft learns from",
        "name one label a row in a column label, several beside a column text, or drop it",
    ),
    "chat_template_kwargs": Field(
        Use.refused,
        "a bundle is asked in one way, and this changes the template from row to row",
        "drop it, and set its values in a file that data.template names",
    ),
    "weight": Field(
        Use.refused,
        "every row counts the same",
        "drop it, and repeat rows that are to count more",
        refuses=lambda value: str(value).lower() not in ("1", "1.0", "true"),
    ),
    "train": Field(
        Use.refused, "it marks rows that are not to be learned", "take these rows out", refuses=_no
    ),
    "kto_tag": Field(
        Use.refused,
        "it marks an answer that is not to be learned, and only pairs of answers teach that",
        "take these rows out, or pair them as prompt, chosen and rejected",
        refuses=_no,
    ),
    **_all(
        Field(Use.unused, "the untouched model's log-probabilities are computed anew"),
        "ref_chosen_logps ref_rejected_logps ref_logps ref_KL_logps",
    ),
    **_all(_ALIKE, "margin score scores rating ratings reward rewards quality sample_weight"),
    **_all(
        _ALIKE,
        "score_chosen score_rejected chosen_score rejected_score chosen_rating rejected_rating",
    ),
    **_all(_ALIKE, "chosen-rating rejected-rating chosen_reward rejected_reward"),
    "split": Field(Use.unused, "all rows of the file are read"),
    "parallel_tool_calls": _HARMLESS,
    **_all(
        _HARMLESS,
        "id _id ids idx index uid uuid guid key row_id sample_id example_id question_id prompt_id",
    ),
    **_all(
        _HARMLESS, "conversation_id conv_id message_id session_id thread_id doc_id hash sha256 md5"
    ),
    **_all(
        _HARMLESS,
        "source src origin dataset dataset_name data_source subset config category categories topic",
    ),
    **_all(
        _HARMLESS,
        "topics domain type task task_name lang language locale url link license author title name",
    ),
    **_all(
        _HARMLESS,
        "model model_name generator created created_at updated_at timestamp date time version",
    ),
    **_all(
        _HARMLESS,
        "meta metadata info note notes comment comments annotations file filename file_name path",
    ),
    **_all(
        _HARMLESS, "num_tokens n_tokens token_count length num_turns n_turns turn_count difficulty"
    ),
    **_all(_HARMLESS, "__index_level_0__"),
    "Unnamed: 0": _HARMLESS,
}
"""Columns of rows. A shape's own columns are used where rows have that shape."""

TOOLS = ("tools", "functions")
"""Names that the tools of a row go under."""
BESIDE = {
    "messages": ("system", *TOOLS),
    "prompt": ("system", "history", *TOOLS),
    "instruction": ("input", "system", "history"),
    "preference": ("prompt", "messages", "conversations", "system", *TOOLS),
    "score": ("label",),
    "labels": ("text_pair",),
    "label": ("text_pair",),
    "pairs": ("negative",),
}
"""Columns that a shape uses beside its own."""
_ANSWERED = ("messages", "prompt", "instruction", "preference")
"""Shapes whose rows hold an answer."""

LABEL_OF_ANSWERS = Field(
    Use.refused,
    "false marks an answer that is not to be learned, and only pairs of answers teach that",
    "take these rows out, or pair them as prompt, chosen and rejected",
    refuses=_no,
)
"""A column ``label`` beside an answer, as unpaired preference rows have it."""

MESSAGES: dict[str, Field] = {
    **_all(_USED, "role content from value"),
    **_all(_USED, "reasoning_content reasoning thinking weight train training loss"),
    **_all(_USED, "tool_calls function_call tool_call_id name"),
    **_all(_TOOLS_OF_MESSAGES, "tools functions"),
    "tool_responses": Field(
        Use.refused,
        "what a tool answers is a turn of its own",
        'give it the role tool, as {"role": "tool", "content": "…"}',
    ),
    **_all(_MEDIA, "image images video videos audio files attachments"),
    **_all(_CHANNELS, "channel recipient recipients content_type"),
    "refusal": Field(
        Use.refused, "what an assistant refuses with is its answer", "put it into content"
    ),
    **_all(
        Field(Use.refused, "edgepeft learns a turn as a whole", "cut the turn, or drop the field"),
        "train_detail training_detail",
    ),
    "prefix": Field(Use.unused, "the last turn is learned as a whole"),
    "end_turn": Field(Use.unused, "a turn ends as the chat template ends it"),
    **_all(_ALIKE, "score rating reward label"),
    **_all(
        _HARMLESS,
        "id _id uuid message_id parent_id index created created_at create_time timestamp date time",
    ),
    **_all(
        _HARMLESS,
        "model language lang locale annotations metadata meta finish_reason stop_reason",
    ),
    **_all(_HARMLESS, "token_count num_tokens usage status source url hash toxic redacted"),
}
"""Keys of messages."""

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names that an assistant's reasoning goes under; transformers takes them in this order."""
CALLS = ("tool_calls", "function_call")
"""Names that an assistant's calls go under; the second is OpenAI's older one."""
LEARNING = ("weight", "train", "training", "loss")
"""Names under which a message says whether it is learned."""
TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of content parts that are text; all others are refused by name."""


def column(name: str, shape: str, own: tuple[str, ...]) -> Field:
    """What becomes of a column of rows of ``shape``, whose own columns are ``own``."""
    if name in own or name in BESIDE.get(shape, ()):
        return _USED
    if name == "label" and shape in _ANSWERED:
        return LABEL_OF_ANSWERS
    found = COLUMNS.get(name) or COLUMNS.get(name.lower())
    if found is None:
        return Field(Use.unused, "not known")
    if name == "tags":
        return _HARMLESS  # topics, where they are not those of words
    if found.use is Use.used:
        return Field(Use.unused, f"rows are read as {shape}, which has no such column")
    return found


def message_key(name: str, role: str) -> Field:
    """What becomes of a key of a message of ``role``."""
    found = MESSAGES.get(name)
    if found is None:
        return Field(Use.unused, "not known")
    if role != "assistant" and name in (*REASONING, *LEARNING):
        return Field(Use.unused, "only assistant turns are learned")
    if name in CALLS and role != "assistant":
        return Field(
            Use.refused, "only an assistant calls tools", "move it into an assistant's turn"
        )
    if name in ("name", "tool_call_id") and role != "tool":
        return Field(Use.unused, "chat templates are given role and content")
    return found
