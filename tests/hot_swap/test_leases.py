"""An adapter is given back however an answer with it ends: then, and not when its memory happens to be freed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.runtime import Bundle, Runtime
from edgepeft.runtime.adapter_pool import AdapterPool, GenaiAdapters
from edgepeft.runtime.answer import Stream
from edgepeft.runtime.batch_runtime import FactorFiles
from edgepeft.runtime.engine import load_model
from edgepeft.runtime.kv_cache import Caches
from edgepeft.runtime.search_options import GREEDY

PROMPT = "What is the colour of grass?"


@pytest.fixture
def runtime(filled: Path) -> Iterator[Runtime]:
    """What is collected while a test lasts is collected by count of references alone."""
    made = Runtime(filled, threads=1)
    gc.disable()
    yield made
    gc.enable()


def begun(runtime: Runtime) -> Stream:
    """A stream that has said something and goes on."""
    stream = runtime.stream(PROMPT, adapter="one", max_new_tokens=24, stop=["@@@@@@"])
    next(stream)
    with pytest.raises(InputError, match="is in use"):
        runtime.unload_adapter("one")
    return stream


def to_its_end(stream: Stream) -> None:
    for _ in stream:
        pass


def left_by_an_exception(stream: Stream) -> None:
    with pytest.raises(ZeroDivisionError), stream:
        _ = len(next(stream)) // 0


@pytest.mark.parametrize("end", [to_its_end, Stream.close, left_by_an_exception])
def test_a_stream_that_has_ended_holds_nothing(
    runtime: Runtime, end: Callable[[Stream], None]
) -> None:
    """Though the stream itself is still there."""
    stream = begun(runtime)
    end(stream)
    runtime.unload_adapter("one")
    assert stream.completion().text


def test_a_stream_that_nobody_has_any_more_holds_nothing(runtime: Runtime) -> None:
    stream = begun(runtime)
    del stream
    runtime.unload_adapter("one")


def test_an_answer_that_failed_holds_nothing(runtime: Runtime) -> None:
    """Though its exception, with all that its traceback knows, is still there."""

    def fail(ids: list[int]) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        runtime.generate_ids([5, 6], max_new_tokens=8, adapter="one", stop_when=fail)
    runtime.unload_adapter("one")
    assert caught.value.__traceback__ is not None


@pytest.fixture
def pool(runtime: Runtime) -> tuple[AdapterPool, Caches]:
    """The parts of a runtime that lend adapters and hold caches, by themselves."""
    bundle = runtime.bundle
    model = load_model(bundle, runtime.prompter.stop_ids, threads=1, provider=None)
    pool = AdapterPool(bundle, GenaiAdapters(model))
    return pool, Caches(model, bundle.context_length, pool)


def test_a_prompt_that_failed_holds_nothing(pool: tuple[AdapterPool, Caches]) -> None:
    """A cache that is too small for it is refused once the adapter is lent."""
    adapters, caches = pool
    with pytest.raises(RuntimeError) as caught:
        caches.fresh([5] * 8, 4, GREEDY, "one")
    assert adapters.loaded == ["one"]
    adapters.unload("one")
    assert caught.value.__traceback__ is not None


def test_a_cache_that_makes_way_gives_its_adapter_back(pool: tuple[AdapterPool, Caches]) -> None:
    """Kept for a next turn, it is replaced by another answer's."""
    adapters, caches = pool
    kept = []
    for name in ("one", "two"):
        cached = caches.take([5, 6], 4, GREEDY, resume=False, adapter=name)
        caches.give_back(cached)
        kept.append(cached)
    assert kept[0].generator is None
    adapters.unload("one")
    adapters.unload("two")
    assert kept[1].generator is None


def test_a_lease_is_given_back_once(filled: Path) -> None:
    pool = AdapterPool(Bundle.open(filled), FactorFiles())
    with pool.lease("one") as lease, pool.lease("one") as other:
        lease.close()
        lease.close()
        with pytest.raises(InputError, match="is in use by 1 answers"):
            pool.unload("one")
        other.rest()
    pool.unload("one")
    with pytest.raises(ZeroDivisionError), pool.lease("two"):
        _ = 1 // 0
    pool.unload("two")
