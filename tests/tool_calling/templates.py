"""Templates that write calls: those in use, and the forms of families whose own are not at hand."""

from __future__ import annotations

from pathlib import Path

from edgepeft.data.prompt import Prompter
from tests.data.templates_in_use import names, source, write_folder
from tests.tiny import write_tiny_tokenizer

SAMPLE = Path("samples/templates/chatml-tools.jinja").resolve().read_text()

_ASKS = "{{ '[INST]' + message.content + '[/INST]' }}"
LISTED = (
    "{{ bos_token }}{% if tools %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}"
    + _ASKS
    + "{% elif message.role == 'tool' %}"
    "[RESULTS]{{ message.content }}[/RESULTS]{% elif message.tool_calls %}[CALLS]["
    "{% for call in message.tool_calls %}"
    '{{ \'{"name": \' }}{{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}'
    "{% if call.id | length != 9 %}{{ raise_exception('an id has nine characters') }}{% endif %}"
    ", \"id\": {{ call.id | tojson }}{{ '}' }}{% if not loop.last %}, {% endif %}{% endfor %}]<|im_end|>"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}{% endfor %}"
)
"""A list of calls with ids behind a control token, as Mistral's models of 2024 write them."""
NAMED = (
    "{{ bos_token }}{% if tools %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}"
    + _ASKS
    + "{% elif message.role == 'tool' %}"
    "[RESULTS]{{ message.content }}[/RESULTS]{% else %}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}[CALLS]{{ call.function.name }}"
    "[ARGS]{{ call.function.arguments | tojson }}{% endfor %}<|im_end|>"
    "{% endif %}{% endfor %}"
)
"""A control token, the name, another, and JSON, as Mistral's models since 2025 write them."""
KEYED = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if loop.first %}{% for tool in tools or [] %}<declare>{{ tool.function | tojson }}</declare>{% endfor %}"
    "{% endif %}{% if message.tool_calls %}{% for call in message.tool_calls %}"
    "<call>call:{{ call.function.name }}"
    "{{ '{' }}{% for key, value in call.function.arguments | dictsort %}{{ key }}:"
    "{% if value is string %}<escape>{{ value }}<escape>"
    "{% elif value is boolean %}{{ 'true' if value else 'false' }}{% else %}{{ value }}{% endif %}"
    "{% if not loop.last %},{% endif %}{% endfor %}{{ '}' }}</call>{% endfor %}{% else %}{{ message.content }}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Keys and values between control tokens, as FunctionGemma writes them."""

OWN = {
    "sample": (SAMPLE, ()),
    "listed": (
        LISTED,
        ("[INST]", "[/INST]", "[TOOLS]", "[/TOOLS]", "[CALLS]", "[RESULTS]", "[/RESULTS]"),
    ),
    "named": (
        NAMED,
        (
            "[INST]",
            "[/INST]",
            "[TOOLS]",
            "[/TOOLS]",
            "[CALLS]",
            "[ARGS]",
            "[RESULTS]",
            "[/RESULTS]",
        ),
    ),
    "keyed": (KEYED, ("<declare>", "</declare>", "<call>", "</call>", "<escape>")),
}
"""Name to template and the control tokens it writes."""

WITHOUT = {
    *(
        "cohere",
        "cohere2",
        "deepseek_r1_distill",
        "deepseekv3",
        "gemma",
        "gemma3",
        "idefics3",
        "lfm2",
        "llama3",
    ),
    *("llava_next", "phi3", "phi3_5", "qwen2_5_vl", "smolvlm"),
    # Text and calls go into channels of their own.
    *("gptoss", "muse_glimmer"),
}
"""Templates in use that write no calls, or in no way that is read back."""

CALLING = [
    *OWN,
    *(
        name
        for name in names()
        if name.removesuffix(".jinja").removesuffix("_training") not in WITHOUT
    ),
]


def prompter(folder: Path, name: str) -> Prompter:
    """A prompter with one of the templates and a tiny tokenizer that knows its control tokens."""
    if name in OWN:
        template, tokens = OWN[name]
        write_tiny_tokenizer(folder, template=template, extra=tokens)
    else:
        write_folder(folder, name)
    return Prompter.from_folder(folder)


__all__ = ["CALLING", "OWN", "SAMPLE", "WITHOUT", "names", "prompter", "source"]
