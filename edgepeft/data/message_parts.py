"""Templates that read what a turn says as a list of parts, as those of models that also take images do.

Given a text, which is what every runtime here gives, such a template goes over its characters and writes none of
them. So it gets, at its beginning, what makes a text the list of one part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from edgepeft.data.rows import Message
from edgepeft.data.templates import ChatTemplate
from edgepeft.errors import InputError

_SAID = ("qzx", "jvk")
"""Short, for a template may cut what is said; no template has them of its own."""
_TURNS: list[Message] = [
    {"role": "user", "content": _SAID[0]},
    {"role": "assistant", "content": _SAID[1]},
]
_PARTS_OF_TEXT = (
    "{%- set edgepeft_turns = namespace(all=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set edgepeft_turns.all = edgepeft_turns.all + [{'role': message['role'], "
    "'content': [{'type': 'text', 'text': message['content']}]}] -%}"
    "{%- else -%}"
    "{%- set edgepeft_turns.all = edgepeft_turns.all + [message] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = edgepeft_turns.all -%}"
    # White space at the template's own beginning is the template's.
    "{{ '' }}"
)


def reading_text(template: ChatTemplate, variables: Mapping[str, str]) -> ChatTemplate:
    """``template``, made to write what turns say where it writes nothing of a text but does of its parts.

    ``variables`` are special tokens.
    """
    if "nothing" not in _written(template, variables):
        return template
    of_parts = ChatTemplate(_PARTS_OF_TEXT + template.source, template.name)
    return of_parts if _written(of_parts, variables) == {"text"} else template


def _written(
    template: ChatTemplate, variables: Mapping[str, str]
) -> set[Literal["text", "list", "nothing"]]:
    """What a template writes of a question, and of one with its answer; none of what it refuses."""
    found: set[Literal["text", "list", "nothing"]] = set()
    for count in (1, 2):
        try:
            text = template.render(_TURNS[:count], variables, generation_prompt=False).lower()
        except InputError:
            continue
        if not all(said in text for said in _SAID[:count]):
            found.add("nothing")
        else:
            found.add("list" if "type" in text else "text")
    return found
