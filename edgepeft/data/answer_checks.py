"""Where a template makes something else of an answer than its row says, or has no way to ask for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row

Check = Callable[[Row], bool | str]
"""Whether something is to be said of a row; a text is shown of the first."""

_SHOWN = 40
_CUT = (
    "{count} completions contain an end token and are cut at it (first: {where}); take it out, edgepeft writes it "
    "itself"
)
_REASONING = (
    "{count} rows have reasoning (reasoning_content, thinking) that the chat template does not write, so it is not "
    "learned (first: {where}); write it into content, or set data.template to a template that writes it"
)
_OTHERWISE = (
    "the model's template and tokenizer write {count} answers otherwise than the rows (first: {where}: {shown}); that "
    "is what is learned, measured and printed"
)
_EARLIER = (
    "{count} training rows have earlier assistant turns that are not learned, for the chat template writes them "
    "otherwise once they are answered (first: {where}); split them into a row for each answer"
)
_REJECTED = (
    "{count} training rows have a rejected answer (first: {where}), which only training.objective: preference learns "
    "from; the chosen one is learned like any answer"
)
_LABEL = "{count} rows have a label (first: {where}), which a model that generates does not learn; it learns the text"


def answer_warnings(
    train: Sequence[Row], test: Sequence[Row], prompter: Prompter, objective: str
) -> list[str]:
    """What is to be said of how rows' answers are asked for, written and learned."""
    rows = [*train, *test]
    supervised, preference = objective == "supervised", objective == "preference"
    checks: list[tuple[Sequence[Row], Check, str]] = [
        (rows, lambda row: _cut_at_end(row, prompter), _CUT),
        (rows, lambda row: _loses_reasoning(row, prompter), _REASONING),
        (rows, lambda row: _written_otherwise(row, prompter), _OTHERWISE),
        (train, lambda row: supervised and prompter.earlier_turns(row) is None, _EARLIER),
        (train, lambda row: not preference and row.rejected is not None, _REJECTED),
        (rows, lambda row: row.label is not None, _LABEL),
    ]
    found = [warning for some, wrong, text in checks for warning in _about(some, wrong, text)]
    return [*_asking(prompter), *_dates(prompter), *found]


def _about(rows: Sequence[Row], wrong: Check, text: str) -> list[str]:
    """One warning of all rows that are ``wrong``, if there are any."""
    found = [(row, shown) for row in rows if (shown := wrong(row))]
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
        f"{ignored}, and it can't be told from how it writes an assistant's turn; set data.template to a copy that "
        "ends with one"
    ]


def _dates(prompter: Prompter) -> list[str]:
    if "strftime_now" not in (prompter.template_source or ""):
        return []
    return [
        "the chat template writes today's date, so a prompt changes from day to day; "
        "set data.template to a copy with a fixed date"
    ]


def _cut_at_end(row: Row, prompter: Prompter) -> bool:
    if prompter.control.as_text or row.messages is None:
        return False
    stops = [prompter.tokenizer.id_to_token(token) or "" for token in prompter.stop_ids]
    return any(stop and stop in row.completion for stop in stops)


def _loses_reasoning(row: Row, prompter: Prompter) -> bool:
    reasoning = row.answer.get("reasoning_content", "") if row.answer else ""
    if not reasoning.strip():
        return False
    return reasoning.strip() not in prompter.decode(prompter.split(row)[1])


def _written_otherwise(row: Row, prompter: Prompter) -> str:
    """What comes of an answer, where that is not the answer."""
    if row.answer is None or row.answer.get("reasoning_content") or _cut_at_end(row, prompter):
        return ""
    written = prompter.decode(prompter.split(row)[1]).strip()
    if written == row.completion.strip():
        return ""
    return repr(written if len(written) <= _SHOWN else written[:_SHOWN] + "…")
