"""Widgets made anew while keys go on being pressed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Maker:
    """Takes widgets away and mounts others: one order after another, and each to its end.

    Textual waits for a removal by gathering the removed widgets' own tasks, so cancelling who waits, as an
    exclusive worker is cancelled by the next one, would cancel those tasks, and with them the app's shutdown.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._orders: set[asyncio.Task[None]] = set()

    async def run(self, make: Callable[[], Awaitable[None]]) -> None:
        """Wait for ``make``; if this wait is cancelled, ``make`` still runs to its end."""

        async def in_turn() -> None:
            async with self._turn:
                await make()

        order = asyncio.create_task(in_turn())
        # The event loop itself holds tasks but weakly.
        self._orders.add(order)
        order.add_done_callback(self._orders.discard)
        await asyncio.shield(order)
