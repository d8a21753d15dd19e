"""From key press to paint in the wizard while a real training runs: ``python benchmarks/tui_latency.py``.

Starts the demo's training from the app, waits for its first steps, then presses keys on the run screen, in the
log's filter and in a form of the wizard, and measures each from the press until the app has painted. Prints JSON:
seconds to the first screen, and median, 95th percentile and maximum of the keys, in milliseconds. The job is
stopped at the end; nothing is left behind.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from edgepeft_tui.app import EdgepeftApp, tame_collector
from edgepeft_tui.draft_files import demo_draft, save

KEYS_ON_THE_RUN = ("down", "up", "pagedown", "pageup", "slash", *"train", "escape")
KEYS_IN_A_FORM = (*"12345", *["backspace"] * 5, "tab", "shift+tab")


QUIET_SECONDS = 0.03
"""Without a paint for so long, what a key caused has been painted."""


class PaintedApp(EdgepeftApp):
    """The app, noting when it paints."""

    CSS_PATH = str(Path(inspect.getfile(EdgepeftApp)).with_name("styles.tcss"))
    paints: list[float] = []  # noqa: RUF012

    def _display(self, *arguments: Any, **named: Any) -> None:
        super()._display(*arguments, **named)
        self.paints.append(time.perf_counter())


async def press(pilot: Pilot[Any], key: str) -> tuple[float, float]:
    """Milliseconds from a key event at the driver to the paint that shows it, and to the last paint after it.

    The first is the first paint once the widget in focus has dealt with the key. The second waits until nothing
    is painted any more, other widgets that follow the key included; paints with another cause, as the cursor's
    blinking or a job's figures, count there too, so it errs upwards. The pilot's own ``press`` sleeps until the
    process is idle, at least 40 ms, so the event is sent as it sends it.
    """
    app, handled = pilot.app, asyncio.Event()
    assert isinstance(app, PaintedApp)
    driver = app._driver
    assert driver is not None
    event = events.Key(key, key if len(key) == 1 else None)
    event.set_sender(app)
    app.paints.clear()
    began = time.perf_counter()
    driver.send_message(event)
    # Behind the key on its way through the app and the screen to the widget in focus.
    app.call_later(
        lambda: app.screen.call_later(lambda: (app.focused or app.screen).call_later(handled.set))
    )
    await handled.wait()
    done = time.perf_counter()
    while time.perf_counter() - max([done, *app.paints]) < QUIET_SECONDS:
        await asyncio.sleep(0.005)
    after = [paint for paint in app.paints if paint >= done]
    # A key that changes nothing, as the arrow at the end of a log, paints nothing.
    first, last = (after[0], after[-1]) if after else (done, done)
    return 1000 * (first - began), 1000 * (last - began)


async def measure(rounds: int) -> dict[str, Any]:
    """Press the keys ``rounds`` times over while the job trains."""
    app = PaintedApp()
    tame_collector()
    run: list[tuple[float, float]] = []
    form: list[tuple[float, float]] = []
    async with app.run_test(size=(160, 50)) as pilot:
        draft = demo_draft(Path.cwd())
        app.open_draft(draft, "Review")
        await pilot.pause(0.5)
        save(draft)
        app.start_run(draft)
        job = app.jobs.watch(draft.run)
        while not job.progress.curves.get("loss"):
            await pilot.pause(0.5)
            if not job.active:
                raise SystemExit(job.error())
        for _ in range(rounds):
            for key in KEYS_ON_THE_RUN:
                run.append(await press(pilot, key))
                await asyncio.sleep(0.05)
        app.open_draft(demo_draft(Path.cwd()), "Method")
        while not isinstance(app.focused, Input):
            await pilot.press("tab")
            await pilot.pause(0.3)
        for _ in range(rounds):
            for key in KEYS_IN_A_FORM:
                form.append(await press(pilot, key))
                await asyncio.sleep(0.05)
        training = job.active and job.progress.running()
        job.stop()
        while job.active:
            await pilot.pause(0.5)
            job.refresh()
    return {
        "training_throughout": bool(training),
        "run_screen": summary(run),
        "form": summary(form),
        "all": summary([*run, *form]),
    }


def summary(values: list[tuple[float, float]]) -> dict[str, Any]:
    """Median, 95th percentile and maximum of both figures, milliseconds."""
    found: dict[str, Any] = {"keys": len(values)}
    for name, times in zip(("to_paint", "to_last_paint"), zip(*values, strict=True), strict=True):
        found[name] = {
            "median_ms": round(statistics.median(times), 1),
            "p95_ms": round(statistics.quantiles(times, n=20)[-1], 1),
            "max_ms": round(max(times), 1),
        }
    return found


def first_screen() -> float:
    """Seconds from the start of the process until the home screen is painted; median of five."""
    code = (
        "import time, asyncio; began = time.perf_counter()\n"
        "from edgepeft_tui.app import EdgepeftApp\n"
        "async def main():\n"
        "    async with EdgepeftApp().run_test() as pilot:\n"
        "        await pilot.pause()\n"
        "        print(time.perf_counter() - began)\n"
        "asyncio.run(main())"
    )
    times = [
        float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(5)
    ]
    return round(statistics.median(times), 3)


def main() -> None:
    """Measure in a folder of its own and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEPEFT_STATE"] = str(Path(folder) / "state")
        os.chdir(folder)
        first = first_screen()
        print(json.dumps({"first_screen_seconds": first, **asyncio.run(measure(rounds))}, indent=2))


if __name__ == "__main__":
    main()
