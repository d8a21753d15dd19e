"""The text of a row's answer, as its template writes it behind the prompt that asks for it."""

from __future__ import annotations

from edgepeft.data.look_alikes import Rendered
from edgepeft.data.rendering import Renderer
from edgepeft.data.rows import Message, Row

PROBE = "edgepeft-probe"
"""Text that stands in an answer's place where its surroundings are looked for."""


def written_answer(renderer: Renderer, row: Row, prompt: Rendered) -> Rendered:
    """What is encoded as the completion of ``row``, whose rendered prompt is ``prompt``: in a chat with what
    closes the turn. Raises InputError where the template refuses the messages.
    """
    answer = row.answer
    assert answer is not None
    if not renderer.chats:
        renderer.refuse_tools((answer,), row.tools, row.where)
        return renderer.answer(answer)
    full = renderer.conversation(row.messages or (), row.where, row.tools)
    if full.text.startswith(prompt.text):
        return full.after(len(prompt.text))
    return _closed(renderer, row, answer, full.text)


def _closed(renderer: Renderer, row: Row, answer: Message, full: str) -> Rendered:
    """The answer, what it calls, and what the template closes a turn with.

    For templates that render a finished turn unlike the one they ask for (reasoning blocks).
    """
    # A probe in the answer's place finds the text behind it; searching the answer itself would find a short one
    # inside a special token.
    probe: Message = {**answer, "content": PROBE}
    probe.pop("reasoning_content", None)
    rendered = renderer.conversation((*row.prompt_messages, probe), row.where, row.tools)
    before, found, closing = rendered.text.rpartition(PROBE)
    if not found:
        return renderer.answer(answer)
    rest = rendered.after(len(before) + len(PROBE))
    content = answer["content"]
    if not content and "tool_calls" in answer:
        # White space parts calls from a text before them.
        return rest.after(len(closing) - len(closing.lstrip()))
    if full.endswith(content.strip() + closing) and not full.endswith(content + closing):
        content = content.strip()
    said = renderer.answer({**answer, "content": content})
    breaks = (*said.breaks, *(len(said.text) + place for place in rest.breaks))
    return Rendered(said.text + closing, breaks)
