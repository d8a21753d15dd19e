"""The adapters that a process has in memory: loaded once, shared by answers, let go when they must make way.

onnxruntime maps an adapter's file, so a loaded adapter takes the file's bytes and several processes share them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from edgepeft.bundle.layout import ADAPTERS
from edgepeft.bundle.manifest import MANIFEST
from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.runtime.adapters import FACTORS, BundleAdapter, hold, open_adapter
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.engine import GenaiModel

if TYPE_CHECKING:
    import onnxruntime_genai as og

    from edgepeft.runtime.plain import PlainModel

_Stamp = tuple[tuple[int, int, int, int], ...]


@dataclass
class _Loaded:
    """``leases`` counts who has it, ``answering`` those of them that use it now and so keep ``held`` open."""

    adapter: BundleAdapter
    stamp: _Stamp | None
    leases: int = 0
    answering: int = 0
    held: IO[bytes] | None = None


class Loader(Protocol):
    """Who takes adapters' files in and lets them go; both raise RuntimeError where that can't be."""

    def load(self, path: Path, name: str) -> None:
        """Take a file in under a name that is not taken."""

    def unload(self, name: str) -> None:
        """Let go of it."""


class GenaiAdapters:
    """onnxruntime-genai's own registry of adapters, made when the first is loaded."""

    def __init__(self, model: GenaiModel | PlainModel) -> None:
        self._model = model
        self._registry: og.Adapters | None = None

    def load(self, path: Path, name: str) -> None:
        """As ``Loader``."""
        self._native.load(str(path), name)

    def unload(self, name: str) -> None:
        """As ``Loader``; an adapter is in use while a generator lives that answers with it."""
        self._native.unload(name)

    def activate(self, generator: og.Generator, name: str) -> None:
        """Make a generator that has read nothing yet answer with the adapter."""
        generator.set_active_adapter(self._native, name)

    @property
    def _native(self) -> og.Adapters:
        if self._registry is None:
            import onnxruntime_genai as og

            assert isinstance(self._model, GenaiModel)
            self._registry = og.Adapters(self._model.native)
        return self._registry


class Lease(contextlib.AbstractContextManager["Lease"]):
    """An adapter lent to an answer: until this is closed it stays loaded, and is in use unless it rests."""

    def __init__(self, pool: AdapterPool, name: str) -> None:
        self.name = name
        self._pool = pool
        self._resting = self._closed = False

    def activate(self, generator: og.Generator) -> None:
        """Make a generator of onnxruntime-genai that has read nothing yet answer with the adapter."""
        assert isinstance(self._pool.loader, GenaiAdapters)
        self._pool.loader.activate(generator, self.name)

    def rest(self) -> None:
        """Keep the adapter without using it: it may be removed, and makes way where memory is short."""
        if not self._resting:
            self._resting = True
            self._pool.settle(self.name, answering=-1)

    def wake(self) -> None:
        """Use it again. Raises InputError where it is being removed."""
        if self._resting:
            self._pool.settle(self.name, answering=1)
            self._resting = False

    def close(self) -> None:
        """Give the adapter back; once is enough."""
        if not self._closed:
            self._closed = True
            self._pool.settle(self.name, answering=0 if self._resting else -1, leases=-1)

    def __exit__(self, *details: object) -> None:
        self.close()


class AdapterPool:
    """Loads, lends and unloads the adapters of one bundle for one loader; safe to use from several threads.

    ``reclaim`` is told the name of an adapter that ought to go, to close a resting lease of it.
    """

    def __init__(self, bundle: Bundle, loader: Loader, *, budget: int | None = None) -> None:
        """``budget`` is in bytes of adapter files; None sets no bound. Raises InputError for one below 1."""
        if budget is not None and budget < 1:
            raise InputError(f"adapter_bytes: must be 1 or more, not {budget}")
        self.reclaim: Callable[[str], None] = lambda name: None
        self._bundle = bundle
        self.loader = loader
        self._budget = budget
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        # Reentrant, for what is reclaimed to make room gives its lease back from within here.
        self._lock = threading.RLock()

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

        Its bytes are held against its manifest when they are loaded. Raises InputError for one that is unknown or
        larger than the budget, DamagedError for one that isn't as its manifest says, EdgepeftError where the
        budget is full of adapters in use, another of that name is, or onnxruntime does not take the file.
        """
        with self._lock:
            stamp = _stamp(self._bundle.path / ADAPTERS / name) if name in self._loaded else None
            if name in self._loaded:
                if self._loaded[name].stamp == stamp:
                    self._loaded.move_to_end(name)
                    return
                # Changed or removed, and perhaps another put in its place.
                try:
                    self._let_go(name)
                except InputError as error:
                    raise EdgepeftError(
                        f"{error}, as it was before it changed; try again"
                    ) from None
            adapter = open_adapter(self._bundle, name, check="hashes")
            stamp = _stamp(adapter.path)
            self._make_room(adapter)
            _read_ahead(adapter.factors)
            try:
                self.loader.load(adapter.factors, name)
            except RuntimeError as error:
                raise EdgepeftError(
                    f"{adapter.factors}: onnxruntime cannot load it ({one_line(error)})"
                ) from error
            self._loaded[name] = _Loaded(adapter, stamp)

    def prefetch(self, name: str) -> None:
        """Load an adapter in the background, its pages included. Raises InputError for one that is unknown."""
        adapter = open_adapter(self._bundle, name)

        def fetch() -> None:
            try:
                self.load(name)
                with adapter.factors.open("rb") as stream:
                    while stream.read(1 << 20):
                        pass
            except (EdgepeftError, OSError):
                return  # whoever asks for the adapter is told

        threading.Thread(target=fetch, name=f"prefetch {name}", daemon=True).start()

    def lease(self, name: str) -> Lease:
        """Lend an adapter, which is loaded if it isn't, to who closes the lease; raises as ``load``."""
        with self._lock:
            self.load(name)
            self.settle(name, answering=1, leases=1)
            return Lease(self, name)

    def settle(self, name: str, *, answering: int, leases: int = 0) -> None:
        """Keep count of who has an adapter and who uses it: the first user holds its folder, the last lets go."""
        with self._lock:
            entry = self._loaded[name]
            if entry.answering == 0 and answering > 0:
                entry.held = hold(entry.adapter)
            entry.answering += answering
            entry.leases += leases
            if entry.answering == 0 and entry.held is not None:
                entry.held.close()
                entry.held = None

    def unload(self, name: str) -> None:
        """Let go of an adapter. Raises InputError where it is not loaded or in use."""
        with self._lock:
            if name not in self._loaded:
                raise InputError(f"{name}: is not loaded")
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
            with contextlib.suppress(InputError):
                self._let_go(name)
        if self.bytes + adapter.bytes > self._budget:
            raise EdgepeftError(
                f"{adapter.path}: adapters in use fill the {self._budget} bytes for adapters; try again"
            )

    def _let_go(self, name: str) -> None:
        """Take an adapter out of memory. Raises InputError where an answer uses it."""
        self.reclaim(name)
        entry = self._loaded[name]
        if entry.leases:
            raise InputError(f"{entry.adapter.path}: is in use by {entry.leases} answers")
        try:
            self.loader.unload(name)
        except RuntimeError as error:  # an answer has ended and its generator is not gone yet
            raise InputError(f"{entry.adapter.path}: is in use ({one_line(error)})") from None
        del self._loaded[name]


def _read_ahead(path: Path) -> None:
    """Have the system read a whole file at once: by itself it would read what the mapping is touched at."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError), path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _stamp(folder: Path) -> _Stamp | None:
    """What tells an adapter from another put in its place, or from itself changed; None where there is none."""
    try:
        found = [(folder / name).stat() for name in (MANIFEST, FACTORS)]
    except OSError:
        return None
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)
