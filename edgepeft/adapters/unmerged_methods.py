"""The methods that change no weights, and stay beside them in a bundle: one declaration each."""

from __future__ import annotations

from edgepeft.adapters.bottleneck_shape import ACTIVATIONS, PLACEMENTS, TYPE
from edgepeft.adapters.method import Option, TrainingMethod

_VIRTUAL = {
    "num_virtual_tokens": Option((int,), "virtual tokens before every prompt", least=1, most=1024)
}
_ENCODER_WIDTH = Option((int,), "inner width of the encoder; the model's own by default", least=1)

METHODS = (
    TrainingMethod(
        name="prompt_tuning",
        summary="embeddings of virtual tokens before every prompt, nothing of the model itself",
        peft_type="PROMPT_TUNING",
        modules="none",
        carried="tokens",
        fixed={"num_virtual_tokens": 20, "prompt_tuning_init": "SAMPLE_VOCAB"},
        options={
            **_VIRTUAL,
            "prompt_tuning_init": Option(
                (str,),
                "start: SAMPLE_VOCAB (embeddings of tokens drawn at random), RANDOM or TEXT",
                ("SAMPLE_VOCAB", "RANDOM", "TEXT"),
            ),
            "prompt_tuning_init_text": Option((str,), "the text that TEXT begins with"),
        },
    ),
    TrainingMethod(
        name="p_tuning",
        summary="virtual tokens made by a small network, of which only the outcome is kept",
        peft_type="P_TUNING",
        modules="none",
        carried="tokens",
        names={"dropout": "encoder_dropout"},
        defaults={"dropout": 0.0},
        fixed={"num_virtual_tokens": 20},
        options={
            **_VIRTUAL,
            "encoder_reparameterization_type": Option(
                (str,), "the network: MLP or LSTM", ("MLP", "LSTM")
            ),
            "encoder_hidden_size": _ENCODER_WIDTH,
            "encoder_num_layers": Option((int,), "layers of the LSTM", least=1, most=16),
        },
    ),
    TrainingMethod(
        name="prefix_tuning",
        summary="keys and values of virtual tokens in every layer",
        peft_type="PREFIX_TUNING",
        modules="none",
        carried="prefix",
        fixed={"num_virtual_tokens": 20},
        options={
            **_VIRTUAL,
            "prefix_projection": Option((bool,), "make them by a small network while training"),
            "encoder_hidden_size": _ENCODER_WIDTH,
            "init_weights": Option((str,), "zero: begin with nothing said", ("zero",)),
        },
    ),
    TrainingMethod(
        name="bottleneck",
        summary="small networks behind attention and feed-forward network, kept in the graph",
        peft_type=TYPE,
        modules="none",
        carried="layers",
        names={"dropout": "bottleneck_dropout"},
        defaults={"dropout": 0.0},
        options={
            "bottleneck_size": Option(
                (int,), "inner width of each; 64 by default", least=1, most=65536
            ),
            "placement": Option(
                (str,),
                "houlsby: behind attention and feed-forward network (default); pfeiffer: the latter",
                tuple(PLACEMENTS),
            ),
            "activation": Option((str,), f"{', '.join(ACTIVATIONS)}; relu by default", ACTIVATIONS),
        },
    ),
)
