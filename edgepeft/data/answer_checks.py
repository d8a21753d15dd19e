"""Where a template makes something else of an answer than its row says, or has no way to ask for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row

_SHOWN = 40


def answer_warnings(
    train: Sequence[Row], test: Sequence[Row], prompter: Prompter, objective: str
) -> list[str]:
    """What is to be said of how rows' answers are asked for, written and learned."""
    rows = [*train, *test]
    return [
        *_asking(prompter),
        *_dates(prompter),
        *_about(rows, lambda row: _cut_at_end(row, prompter), (
            "{count} completions contain an end token and are cut at it (first: {where}); take it out, edgepeft "
            "writes it itself"
        )),
        *_about(rows, lambda row: _loses_reasoning(row, prompter), (
            "{count} rows have reasoning (reasoning_content, thinking) that the chat template does not write: it is "
            "not learned (first: {where}); write it into content, or set data.template to a template that writes it"
        )),
        *_about(rows, lambda row: _written_otherwise(row, prompter), (
            "the model's template and tokenizer write {count} answers otherwise than the rows (first: {where}: "
            "{shown}); that is what is learned, measured and printed"
        )),
        *_about(train, lambda row: objective == "supervised" and prompter.earlier_turns(row) is None, (
            "{count} training rows have earlier assistant turns that are not learned, for the chat template writes "
            "them otherwise once they are answered (first: {where}); split them into a row for each answer"
        )),
        *_about(train, lambda row: objective != "preference" and row.rejected is not None, (
            "{count} training rows have a rejected answer (first: {where}), which only training.objective: preference "
            "learns from; the chosen one is learned as any answer"
        )),
        *_about(rows, lambda row: row.label is not None, (
            "{count} rows have a label (first: {where}), which a model that generates does not learn; it learns the "
            "text"
        )),
    ]  # fmt: skip


def _about(rows: Sequence[Row], wrong: Callable[[Row], bool | str], text: str) -> list[str]:
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
    if asking.how == "added":
        return [
            f"the chat template has no generation prompt (it ignores add_generation_prompt): {asking.opening!r} is "
            "added, with which it begins an assistant's turn; the bundle's template has it too"
        ]
    return [
        "the chat template has no generation prompt (it ignores add_generation_prompt), and it can't be told from how "
        "it writes an assistant's turn; set data.template to a copy that ends with one"
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
