"""Hyperparameters that several methods of PEFT have, under PEFT's names, and the kinds of values there are."""

from __future__ import annotations

from edgepeft.adapters.method import Option

FEED_FORWARD = ("down_proj", "w2")
"""What families call the last projection of a feed-forward network."""
SAVED = {
    "modules_to_save": Option(
        (list,), "modules trained and kept whole, as [embed_tokens, lm_head]"
    ),
}
CHOSEN = {
    "layers_to_transform": Option((list, int), "indices of the layers that are adapted"),
    "layers_pattern": Option((str, list), "name of the list of layers, where PEFT can't tell"),
    **SAVED,
}
LAYERS = {
    "exclude_modules": Option((list, str), "modules left out of target_modules"),
    **CHOSEN,
}


def whole(text: str) -> Option:
    """A hyperparameter that is a whole number."""
    return Option((int,), text)


def number(text: str) -> Option:
    """A hyperparameter that is any number."""
    return Option((float, int), text)


def switch(text: str) -> Option:
    """A hyperparameter that is on or off."""
    return Option((bool,), text)
