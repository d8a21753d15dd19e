"""A tokenizer's files laid over those of another folder, as a user would who copies the one into the other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgepeft.data.tokenizer_files import read_chat_template
from edgepeft.models.tokens import TOKENIZER
from edgepeft.utils.files import read_json_object

TEMPLATE = "chat_template.jinja"
SETTINGS = "tokenizer_config.json"
VOCABULARY = (
    *(TOKENIZER, "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "added_tokens.json"),
)
"""Files that hold a vocabulary, the first alone or some of the others."""
BESIDE = (SETTINGS, "special_tokens_map.json", TEMPLATE, "chat_template.json")
_OF_MODEL = ("config.json", "generation_config.json")


def lay_over(base: Path, adapter: Path, out: Path) -> None:
    """Write the tokenizer's files of the folder ``base`` into ``out``, an adapter's own over them.

    Where the adapter has a vocabulary, none of the base's tokenizer files remain but its chat template, for an
    adapter without one.
    """
    for name in _OF_MODEL:
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    whole = (adapter / TOKENIZER).is_file()
    for folder, names in (
        (base, () if whole else (*VOCABULARY, *BESIDE)),
        (adapter, (*VOCABULARY, *BESIDE) if whole else BESIDE),
    ):
        for name in names:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, out / name)
    template = read_chat_template(adapter) or read_chat_template(base)
    if template is not None:
        (out / TEMPLATE).write_text(template[0], encoding="utf-8")
    _drop_template(out / SETTINGS)


def _drop_template(settings: Path) -> None:
    """The template stands in a file of its own now; the one inside the settings could be the base's."""
    if settings.is_file():
        said = read_json_object(settings)
        if said.pop("chat_template", None) is not None:
            settings.write_text(json.dumps(said, ensure_ascii=False) + "\n", encoding="utf-8")
