"""The adapters that a process has in memory: loaded once, shared by answers, let go when they must make way.

onnxruntime maps an adapter's file, so a loaded adapter takes the file's bytes and several processes share them.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.runtime.adapters import BundleAdapter, hold, open_adapter
from edgepeft.runtime.bundle import Bundle

if TYPE_CHECKING:
    import onnxruntime_genai as og


@dataclass
class _Loaded:
    adapter: BundleAdapter
    held: IO[bytes]
    users: int = 0


class Lease:
    """An adapter in use: while this object lives it stays loaded."""

    def __init__(self, pool: AdapterPool, name: str) -> None:
        self.name = name
        self._pool = pool

    def activate(self, generator: og.Generator) -> None:
        """Make a generator that has read nothing yet answer with the adapter."""
        generator.set_active_adapter(self._pool.native, self.name)

    def __del__(self) -> None:
        """Give the adapter back."""
        self._pool.returned(self.name)


class AdapterPool:
    """Loads, lends and unloads the adapters of one bundle for one model; safe to use from several threads."""

    def __init__(self, bundle: Bundle, model: og.Model, *, budget: int | None = None) -> None:
        """``budget`` is in bytes of adapter files; None sets no bound. Raises InputError for one below 1."""
        if budget is not None and budget < 1:
            raise InputError(f"adapter_bytes: must be 1 or more, not {budget}")
        self._bundle = bundle
        self._model = model
        self._budget = budget
        self._native: og.Adapters | None = None
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        # Reentrant, for a lease may be dropped by the garbage collector at any point, within here too.
        self._lock = threading.RLock()

    @property
    def native(self) -> og.Adapters:
        """onnxruntime-genai's own registry."""
        if self._native is None:
            import onnxruntime_genai as og

            self._native = og.Adapters(self._model)
        return self._native

    @property
    def loaded(self) -> list[str]:
        """Names in memory, the one used longest ago first."""
        with self._lock:
            return list(self._loaded)

    @property
    def bytes(self) -> int:
        """Bytes of all that is loaded."""
        with self._lock:
            return sum(entry.adapter.bytes for entry in self._loaded.values())

    def load(self, name: str) -> None:
        """Have an adapter in memory, as the one used last.

        Raises InputError for one that can't be opened or is larger than the budget, EdgepeftError where the
        budget is full of adapters in use or onnxruntime does not take the file.
        """
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return
            adapter = open_adapter(self._bundle, name)
            self._make_room(adapter)
            held = hold(adapter)
            try:
                self.native.load(str(adapter.factors), name)
            except RuntimeError as error:
                held.close()
                raise EdgepeftError(
                    f"{adapter.factors}: onnxruntime-genai cannot load it ({one_line(error)})"
                ) from error
            self._loaded[name] = _Loaded(adapter, held)

    def prefetch(self, name: str) -> None:
        """Load an adapter in the background, its pages included."""

        def fetch() -> None:
            try:
                self.load(name)
                with self._loaded[name].adapter.factors.open("rb") as stream:
                    while stream.read(1 << 20):
                        pass
            except (EdgepeftError, OSError, KeyError):
                return  # whoever asks for the adapter is told

        threading.Thread(target=fetch, name=f"prefetch {name}", daemon=True).start()

    def lease(self, name: str) -> Lease:
        """Lend an adapter, which is loaded if it isn't; raises as ``load``."""
        with self._lock:
            self.load(name)
            self._loaded[name].users += 1
            return Lease(self, name)

    def returned(self, name: str) -> None:
        """A lease has ended."""
        with self._lock:
            self._loaded[name].users -= 1

    def unload(self, name: str) -> None:
        """Let go of an adapter. Raises InputError where it is not loaded or in use."""
        with self._lock:
            entry = self._loaded.get(name)
            if entry is None:
                raise InputError(f"{name}: is not loaded")
            if entry.users:
                raise InputError(f"{entry.adapter.path}: is in use by {entry.users} answers")
            self._let_go(name)

    def _make_room(self, adapter: BundleAdapter) -> None:
        if self._budget is None:
            return
        if adapter.bytes > self._budget:
            raise InputError(
                f"{adapter.path}: takes {adapter.bytes} bytes, more than the {self._budget} for adapters"
            )
        for name in list(self._loaded):
            if self.bytes + adapter.bytes <= self._budget:
                return
            if not self._loaded[name].users:
                # An answer that just ended may not have let go of it yet.
                with contextlib.suppress(InputError):
                    self._let_go(name)
        if self.bytes + adapter.bytes > self._budget:
            raise EdgepeftError(
                f"{adapter.path}: adapters in use fill the {self._budget} bytes for adapters; try again"
            )

    def _let_go(self, name: str) -> None:
        try:
            self.native.unload(name)
        except RuntimeError as error:
            raise InputError(f"{name}: is in use ({one_line(error)})") from None
        self._loaded.pop(name).held.close()
