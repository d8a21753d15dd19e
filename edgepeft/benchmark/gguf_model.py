"""llama.cpp on a GGUF file, through the low-level interface of llama-cpp-python: for comparisons only.

Asked with token ids, so the file needs no vocabulary. Interface of llama-cpp-python 0.3.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, MissingError
from edgepeft.utils.threads import chosen_threads

FORM = "Q4_K_M"


def _library() -> Any:
    """The package, told to keep quiet. Raises MissingError."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingError("needs llama-cpp-python: pip install llama-cpp-python") from error
    llama_cpp.llama_log_set(_QUIET, ctypes.c_void_p(0))
    return llama_cpp


_QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
    lambda level, text, data: None
)


def quantize_gguf(source: Path, out: Path) -> None:
    """Write ``source`` at Q4_K_M, llama.cpp's usual 4-bit mixture. Raises MissingError, EdgepeftError."""
    library = _library()
    options = library.llama_model_quantize_default_params()
    options.ftype = library.LLAMA_FTYPE_MOSTLY_Q4_K_M
    status = library.llama_model_quantize(
        os.fsencode(source), os.fsencode(out), ctypes.byref(options)
    )
    if status:
        raise EdgepeftError(f"{out}: llama.cpp could not quantize it (status {status})")


class GgufModel:
    """One model and one sequence. Raises MissingError, and EdgepeftError where llama.cpp fails."""

    def __init__(self, file: Path, *, capacity: int, threads: int | None = None) -> None:
        """``capacity`` is the most tokens of a sequence, which may all be read at once."""
        self._library = library = _library()
        self._file = file
        model = library.llama_model_default_params()
        model.n_gpu_layers = 0
        self._model = library.llama_model_load_from_file(os.fsencode(file), model)
        if not self._model:
            raise EdgepeftError(f"{file}: llama.cpp cannot load it")
        context = library.llama_context_default_params()
        context.n_ctx = context.n_batch = capacity
        context.n_threads = context.n_threads_batch = chosen_threads(threads)
        self._context = library.llama_init_from_model(self._model, context)
        if not self._context:
            raise EdgepeftError(f"{file}: llama.cpp cannot make a context of {capacity} tokens")
        self.vocab_size = int(
            library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model))
        )
        self._batch = library.llama_batch_init(capacity, 0, 1)

    def read(
        self, ids: Sequence[int], past: int, *, every: bool = False
    ) -> npt.NDArray[np.float32]:
        """Logits float32 after the last of ``ids``, or after ``every`` one: [1 or T, V].

        They come after ``past`` tokens read before; what was read behind those is forgotten.
        """
        library, batch = self._library, self._batch
        memory = library.llama_get_memory(self._context)
        library.llama_memory_seq_rm(memory, 0, past, -1)
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index] = token
            batch.pos[index] = past + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = every or index == len(ids) - 1
        status = library.llama_decode(self._context, batch)
        if status:
            raise EdgepeftError(f"{self._file}: llama.cpp failed (status {status})")
        rows = len(ids) if every else 1
        found = library.llama_get_logits(self._context)
        logits: npt.NDArray[np.float32] = np.ctypeslib.as_array(found, (rows, self.vocab_size))
        return logits.copy()

    def close(self) -> None:
        """Give the memory back."""
        self._library.llama_batch_free(self._batch)
        self._library.llama_free(self._context)
        self._library.llama_model_free(self._model)
