"""Templates that compute, grow or go on for ever are errors, soon and within little memory; others render."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgepeft.data import templates
from edgepeft.data.rows import Message
from edgepeft.data.templates import ChatTemplate
from edgepeft.errors import InputError

HI: list[Message] = [{"role": "user", "content": "hi"}]
BIG = "{% set b = 'x' * 4000000 %}"
NEST = (
    "{% set n = namespace(a=['x'], b=['x']) %}{% for i in range(60) %}"
    "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}"
)
TUPLES = "{% set n = namespace(a=('x',)) %}{% for i in range(60) %}{% set n.a = (n.a, n.a) %}{% endfor %}"
FOREVER = "{% for i in range(99999) %}"

HOSTILE = {
    # What reaches out of the sandbox.
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "append": "{{ messages.append(1) }}",
    "globals": "{{ messages.__init__.__globals__ }}",
    "private names": "{{ namespace(__class__=1) }}",
    "encode": "{{ 'a'.encode() }}",
    "translate": "{{ 'aaa'.translate({97: 'x' * 1000000}) }}",
    "bytes of a number": "{{ (5).to_bytes(1000000000, 'big') }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "methods by map": "{{ (['a'] | map(attribute='center') | first)(1000000000) }}",
    "methods by attr": "{{ ('a' | attr('center'))(1000000000) }}",
    # Numbers.
    "squares": "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "sums": f"{{% set n = namespace(x=3) %}}{FOREVER}{{% set n.x = n.x + n.x %}}{{% endfor %}}",
    "differences": f"{{% set n = namespace(x=3) %}}{FOREVER}{{% set n.x = n.x - -n.x %}}{{% endfor %}}",
    "powers": "{{ 7 ** 7 ** 7 ** 7 }}",
    "a power": "{{ 10 ** 999999999 }}",
    "a small power of a large number": "{{ (2 ** 62) ** 60 }}",
    "digits": "{{ ('9' * 4000) | int }}",
    # Strings that grow.
    "repeated": "{{ 'a' * 10**12 }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "center": "{{ 'a' | center(1000000000) }}",
    "zfill": "{{ 'a'.zfill(15000000) }}" * 20,
    "tabs": "{{ ('\\t' * 100000).expandtabs(100000) }}",
    "indent": "{{ ('a\\n' * 100000) | indent(100000) }}",
    "indent by text": "{{ ('a\\n' * 100000) | indent('x' * 9999) }}",
    "join": "{{ range(99999) | join('x' * 1000000) }}",
    "str.join": "{{ ('x' * 1000000).join(['a'] * 99999) }}",
    "join of one text": BIG + "{{ ([b] * 99999) | join }}",
    "replace": BIG + "{{ b | replace('x', b) }}",
    "str.replace": BIG + "{{ b.replace('', b) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent filter": "{{ '%1000000000d' | format(1) }}",
    "percent by value": "{{ '%*d' % (15000000, 1) }}",
    "percent of one text": BIG + "{{ ('%(a)s' * 9999) % {'a': b} }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format by value": "{{ '{:{}}'.format(1, 15000000) }}",
    "format of one text": BIG + "{{ ('{0}' * 9999).format(b) }}",
    "escaped": BIG + "{{ b.replace('x', '<') | e | e }}",
    "urlencode": BIG + "{{ b.replace('x', '<') | urlencode }}",
    "doubled": "{% set n = namespace(s='ab') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "added": "{% set n = namespace(s='ab') %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "captured": "{% set n = namespace(s='ab') %}{% for a in range(99) %}"
    "{% set n.s %}{{ n.s }}{{ n.s }}{% endset %}{% endfor %}",
    "written": FOREVER + "{{ messages[0].content * 9999 }}{% endfor %}",
    "macro": BIG + "{% macro m() %}" + "{{ b }}" * 2000 + "{% endmacro %}{{ m() | length }}",
    "set": BIG + "{% set y %}" + FOREVER + "{{ b }}{% endfor %}{% endset %}{{ y | length }}",
    "literal text": "{% set y %}" + FOREVER + "z" * 99_999 + "{% endfor %}{% endset %}",
    "literal text of recursion": "{% set y %}{% for i in [range(9999)] recursive %}" + "z" * 99_999
    + "{{ loop(range(9999)) if loop.depth < 3 }}{% endfor %}{% endset %}",
    "JSON indent": "{{ messages | tojson(indent=100000000) }}",
    "JSON separators": "{{ range(99999) | list | tojson(separators=('x' * 1000000, ':')) }}",
    "date": "{{ strftime_now('%Y' * 1000000) }}",
    # Lists that grow, or seem to.
    "kept lists": "{% set n = namespace(a=[]) %}" + FOREVER
    + "{% set n.a = n.a + [range(99999) | list] %}{% endfor %}",
    "kept texts": "{% set n = namespace(a=[]) %}" + FOREVER
    + "{% set n.a = n.a + ['\U0001f600' * 1000000] %}{% endfor %}",
    "kept slices": BIG + "{% set n = namespace(a=[]) %}" + FOREVER
    + "{% set n.a = n.a + [b[1:]] %}{% endfor %}",
    "split": BIG + FOREVER + "{% set z = b.replace('x', 'x ').split() %}{% endfor %}",
    "characters": BIG + FOREVER + "{% set z = b | list %}{% endfor %}",
    "batch": "{{ [1] | batch(1000000000, 0) | list | length }}",
    "slice": "{{ [1] | slice(1000000000) | list | length }}",
    "mapped": "{{ range(99999) | map('center', 99999) | list | length }}",
    "sum of lists": "{{ ([[1, 2, 3]] * 99999) | sum(start=[]) | length }}",
    "dictionaries": "{% set n = namespace(d={}) %}" + FOREVER
    + "{% set n.d = dict(n.d, **{i | string: 'x' * 99999}) %}{% endfor %}",
    # Lists in each other, which come to 2**60 parts.
    "shown": NEST + "{{ n.a }}",
    "JSON": NEST + "{{ n.a | tojson }}",
    "string": NEST + "{{ n.a | string }}",
    "joined": NEST + "{{ n.a ~ '' }}",
    "upper": NEST + "{{ n.a | upper }}",
    "equal": NEST + "{{ n.a == n.b }}",
    "less": NEST + "{% if n.a < n.b %}{% endif %}",
    "in": NEST + "{{ n.a in [n.b] }}",
    "test": NEST + "{{ n.a is eq(n.b) }}",
    "selectattr": NEST + "{{ [{'k': n.a}] | selectattr('k', 'eq', n.b) | list }}",
    "sort": NEST + "{{ [n.a, n.b] | select | sort }}",
    "max": NEST + "{{ [n.a, n.b] | max }}",
    "groupby": NEST + "{{ [{'k': n.a}, {'k': n.b}] | groupby('k') | list }}",
    "index": NEST + "{{ [n.a].index(n.b) }}",
    "changed": NEST + "{% for i in [n.a, n.b] %}{{ loop.changed(i) }}{% endfor %}",
    "raised": NEST + "{{ raise_exception(n.a) }}",
    "key": TUPLES + "{{ {n.a: 1} }}",
    "subscript": TUPLES + "{{ {}[n.a] }}",
    "get": TUPLES + "{{ {}.get(n.a) }}",
    "dict": TUPLES + "{{ dict([(n.a, 1)]) }}",
    "unique": TUPLES + "{{ [n.a] | select | unique | list }}",
    # Loops and calls.
    "loops": FOREVER + FOREVER + "{% endfor %}{% endfor %}",
    "loops over filters": FOREVER
    + "{% for b in range(99999) | map('string') | select %}{% endfor %}{% endfor %}",
    "loop.length": FOREVER + "{% for x in range(99999) | select %}{{ loop.length }}{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{{ m(n - 1) if n }}{{ m(n - 1) if n }}{% endmacro %}{{ m(60) }}",
    "recursive loops": "{% for x in [[1]] recursive %}{{ loop([1, 1]) if loop.depth < 50 }}"
    "{{ loop([1, 1]) if loop.depth < 50 }}{% endfor %}",
    "long recursive loops": "{% for x in [[1]] recursive %}"
    "{{ loop(range(99999)) if loop.depth < 5 }}{% endfor %}",
    "cycler": FOREVER + "{{ cycler(*range(99999)) }}{% endfor %}",
    "slices": "{% set z = range(99999) | list %}" + FOREVER + "{% set q = z[1:] %}{% endfor %}",
    "searches": BIG + FOREVER + "{% if 'xxxxxxy' in b %}{% endif %}{% endfor %}",
    "find": BIG + FOREVER + "{{ b.find('xxxxxxxxxxxxxxxxxxxy') }}{% endfor %}",
    "sorts": FOREVER + "{% set z = range(99999) | sort(reverse=true) %}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_are_stopped(name: str) -> None:
    template = ChatTemplate(HOSTILE[name], "t.jinja")
    started = time.thread_time()
    with pytest.raises(
        InputError, match=r"^t\.jinja: the chat template uses what templates are not allowed: "
    ) as error:
        template.render(HI, {}, generation_prompt=True)
    assert time.thread_time() - started < 5
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_little_memory_is_taken() -> None:
    """All of them, one after another in one process."""
    code = """
from tests.data.test_sandbox import HI, HOSTILE
from edgepeft.data.templates import ChatTemplate
from edgepeft.errors import InputError
for source in HOSTILE.values():
    try:
        ChatTemplate(source, "t").render(HI, {}, generation_prompt=True)
    except InputError as error:
        assert "MemoryError" not in str(error), source[:200]
# getrusage would count the process that this one was started from.
status = open("/proc/self/status").read()
print(status.partition("VmHWM:")[2].split()[0])  # in KiB
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) < 800_000


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a" * 200_000, "has more than 128000 characters"),
        ("{{ a }}" * 9_000, "has more than 8000 parts"),
        ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", "recursion"),
        ("{{ a" + ".a" * 50_000 + " }}", "recursion|parts"),
        ("{% if 1 %}" * 3_000 + "{% endif %}" * 3_000, "recursion"),
        ("{{ 'a' | nosuchfilter }}", "No filter named 'nosuchfilter'"),
        ("{{ 'a' | urlize }}", "No filter named 'urlize'"),
        ("{{ 'a' | random }}", "No filter named 'random'"),
        ("{{ '" + "a" * 50_000, "unexpected"),
    ],
)
def test_templates_that_take_long_to_compile(source: str, said: str) -> None:
    started = time.thread_time()
    with pytest.raises(InputError, match=rf"t\.jinja: not a (valid )?chat template: .*({said})"):
        ChatTemplate(source, "t.jinja")
    assert time.thread_time() - started < 5


def test_constants_are_not_computed_while_compiling() -> None:
    started = time.thread_time()
    ChatTemplate("{{ [" + ", ".join(["'a' | center(99999)"] * 1000) + "] | length }}", "t")
    assert time.thread_time() - started < 5


def test_each_rendering_has_a_budget_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that render at once don't pay for each other, nor does one rendering for the last."""
    monkeypatch.setattr(templates, "MAX_STEPS", 3_000)
    template = ChatTemplate("{% for i in range(900) %}{{ i }}{% endfor %}", "t")
    failed: list[Exception] = []

    def work() -> None:
        for _ in range(5):
            try:
                template.render(HI, {}, generation_prompt=True)
            except InputError as error:
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_garbage_that_is_collected_meanwhile_is_not_the_templates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that holds models has so many objects that a collection takes longer than any rendering may."""
    monkeypatch.setattr(templates, "MAX_SECONDS", 0.05)
    collected: list[str] = []

    def long_collection(phase: str, info: dict[str, int]) -> None:
        started = time.thread_time()
        # The first ones come before the rendering has begun.
        while len(collected) == 20 and time.thread_time() - started < 0.1:
            pass
        collected.append(phase)

    template = ChatTemplate(
        "{% for i in range(90) %}{% set n = namespace(a=[i]) %}{{ n.a[0] }} {% endfor %}", "t"
    )
    threshold = gc.get_threshold()
    gc.callbacks.append(long_collection)
    try:
        gc.set_threshold(2)
        text = template.render(HI, {}, generation_prompt=True)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(long_collection)
    assert len(collected) > 20
    assert text.split() == [str(i) for i in range(90)]


def test_a_long_conversation_is_no_hostile_one() -> None:
    chat = ChatTemplate(
        "{% for m in messages %}{% if m.role == 'user' and 'x' in m %}{{ m.x | tojson }}{% endif %}"
        "{{ '<|' ~ m.role ~ '|>' + m.content | trim }}{% endfor %}",
        "t",
    )
    turns: list[Message] = [{"role": "user", "content": f"turn {n} " * 40} for n in range(3_000)]
    text = chat.render(turns, {}, generation_prompt=True)
    assert text.count("<|user|>") == 3_000
    long: list[Message] = [{"role": "user", "content": "word " * 800_000}]
    assert len(chat.render(long, {}, generation_prompt=True)) > 3_900_000


def test_the_message_of_a_template_is_cut() -> None:
    with pytest.raises(InputError) as error:
        ChatTemplate("{{ raise_exception('no! ' * 9999) }}", "t").render(
            HI, {}, generation_prompt=True
        )
    assert len(str(error.value)) < 500
    assert "no! no! no!" in str(error.value)
