"""Rows as JSON Lines, under edgepeft's own names of columns: what is written reads back as the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from edgepeft.data.rows import Row


def as_jsonl(rows: Iterable[Row]) -> str:
    """One JSON object a line, for ``read_file``; where a row stood in its own file is not kept."""
    return "".join(json.dumps(_record(row), ensure_ascii=False) + "\n" for row in rows)


def _record(row: Row) -> dict[str, Any]:
    tools = {"tools": list(row.tools)} if row.tools else {}
    if row.rejected is not None:
        answers = {"chosen": [row.answer], "rejected": [row.rejected]}
        return {"prompt": list(row.prompt_messages), **answers, **tools}
    if row.messages is not None:
        turns = [
            {**turn, "weight": 0} if index in row.unlearned else turn
            for index, turn in enumerate(row.messages)
        ]
        return {"messages": turns, **tools}
    if row.words is not None:
        return {"tokens": list(row.words), "tags": list(row.tags or ())}
    if row.positive is not None:
        pair = {"anchor": row.text, "positive": row.positive}
        return pair if row.negative is None else {**pair, "negative": row.negative}
    if row.score is not None:
        return {"query": row.text, "passage": row.pair, "score": row.score}
    text = {"text": row.text} if row.pair is None else {"text": row.text, "text_pair": row.pair}
    if row.labels is not None:
        return {**text, "labels": list(row.labels)}
    return text if row.label is None else {**text, "label": row.label}
