"""Where a template makes something else of an answer than its row says, or has no way to ask for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgepeft.data.encoded import Reading
from edgepeft.data.prompt import Prompter
from edgepeft.data.tool_checks import call_warnings

Check = Callable[[Reading], bool | str]
"""Whether something is to be said of a row; a text is shown of the first."""

_SHOWN = 40
_CUT = (
    "{count} completions contain an end token and are cut at it (first: {where}); take it out, edgepeft "
    "writes it itself"
)
_REASONING = (
    "{count} rows have reasoning (reasoning_content, thinking) that the chat template does not write, so it "
    "is not learned (first: {where}); write it into content, or set data.template to a template that writes it"
)
_OTHERWISE = (
    "the model's template and tokenizer write {count} answers otherwise than the rows (first: {where}: "
    "{shown}); that is what is learned, measured and printed"
)
_EARLIER = (
    "{count} training rows have earlier assistant turns that are not learned, for the chat template writes "
    "them otherwise once they are answered (first: {where}); split them into a row for each answer"
)
_REJECTED = (
    "{count} training rows have a rejected answer (first: {where}), which only training.objective: "
    "preference learns from; the chosen one is learned like any answer"
)
_LABEL = "{count} rows have a label that a model that generates does not learn (first: {where})"


def answer_warnings(
    train: Sequence[Reading], test: Sequence[Reading], prompter: Prompter, objective: str
) -> list[str]:
    """What is to be said of how rows' answers are asked for, written and learned."""
    both = [*train, *test]
    supervised, preference = objective == "supervised", objective == "preference"
    checks: list[tuple[Sequence[Reading], Check, str]] = [
        (both, lambda read: _cut_at_end(read, prompter), _CUT),
        (both, lambda read: _loses_reasoning(read, prompter), _REASONING),
        (both, lambda read: _written_otherwise(read, prompter), _OTHERWISE),
        (train, lambda read: supervised and read.earlier is None, _EARLIER),
        (train, lambda read: not preference and read.row.rejected is not None, _REJECTED),
        (both, lambda read: read.row.label is not None, _LABEL),
    ]
    found = [warning for some, wrong, text in checks for warning in _about(some, wrong, text)]
    calls = call_warnings(read.row for read in both)
    return [*_asking(prompter), *_dates(prompter), *found, *calls]


def _about(readings: Sequence[Reading], wrong: Check, text: str) -> list[str]:
    """One warning of all rows that are ``wrong``, if there are any."""
    found = [(read.row, shown) for read in readings if (shown := wrong(read))]
    if not found:
        return []
    row, shown = found[0]
    return [text.format(count=len(found), where=row.where, shown=shown)]


def _asking(prompter: Prompter) -> list[str]:
    asking = prompter.asking
    if asking is None or asking.how == "own":
        return []
    ignored = "the chat template has no generation prompt (it ignores add_generation_prompt)"
    if asking.how == "added":
        return [
            f"{ignored}: {asking.opening!r} is added, with which it begins an assistant's turn; the bundle's "
            "template has it too"
        ]
    return [
        f"{ignored}, and it can't be told from how it writes an assistant's turn; set data.template to a copy "
        "that ends with one"
    ]


def _dates(prompter: Prompter) -> list[str]:
    if "strftime_now" not in (prompter.template_source or ""):
        return []
    return [
        "the chat template writes today's date, so a prompt changes from day to day; "
        "set data.template to a copy with a fixed date"
    ]


def _cut_at_end(read: Reading, prompter: Prompter) -> bool:
    if prompter.control.as_text or read.row.messages is None:
        return False
    stops = [prompter.tokenizer.id_to_token(token) or "" for token in prompter.stop_ids]
    return any(stop and stop in read.row.completion for stop in stops)


def _loses_reasoning(read: Reading, prompter: Prompter) -> bool:
    reasoning = read.row.answer.get("reasoning_content", "") if read.row.answer else ""
    return bool(reasoning.strip()) and reasoning.strip() not in prompter.decode(read.completion)


def _written_otherwise(read: Reading, prompter: Prompter) -> str:
    """What comes of an answer, where that is not the answer."""
    answer = read.row.answer
    if answer is None or answer.get("reasoning_content") or _cut_at_end(read, prompter):
        return ""
    if "tool_calls" in answer:
        return ""  # the template's own way to write calls is what is learned
    written = prompter.decode(read.completion).strip()
    if written == answer["content"].strip():
        return ""
    return repr(written if len(written) <= _SHOWN else written[:_SHOWN] + "…")
