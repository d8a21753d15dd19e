"""An adapter is given back however an answer with it ends: then, and not when its memory happens to be freed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.runtime import Bundle, Runtime
from edgepeft.runtime.adapter_pool import AdapterPool
from edgepeft.runtime.answer import Stream
from edgepeft.runtime.batch_runtime import FactorFiles
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


def test_a_prompt_that_failed_holds_nothing(runtime: Runtime) -> None:
    """A cache that is too small for it is refused once the adapter is lent."""
    with pytest.raises(RuntimeError) as caught:
        runtime._caches.fresh([5] * 8, 4, GREEDY, "one")
    assert runtime.loaded_adapters == ["one"]
    runtime.unload_adapter("one")
    assert caught.value.__traceback__ is not None


def test_a_cache_that_makes_way_gives_its_adapter_back(runtime: Runtime) -> None:
    """Kept for a next turn, it is replaced by another answer's."""
    kept = []
    for name in ("one", "two"):
        cached = runtime._caches.take([5, 6], 4, GREEDY, resume=False, adapter=name)
        runtime._caches.give_back(cached)
        kept.append(cached)
    assert kept[0].generator is None
    runtime.unload_adapter("one")
    runtime.unload_adapter("two")
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
