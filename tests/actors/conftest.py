"""The kernel's tests do no I/O, so they run in a time of their own, which jumps ahead whenever everybody waits."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock


def instantly(
    test: Callable[[], Awaitable[Any]],
    *,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> Any:
    """Run a test under such a clock. One that hangs fails at once, after a day of that time."""

    async def limited() -> None:
        with trio.fail_after(24 * 3600):
            await test()

    return trio.run(limited, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mine = item.path.parent.name == "actors" and item.path.name.startswith("test_kernel_")
        if mine and item.get_closest_marker("trio"):
            item.add_marker(pytest.mark.trio(run=instantly), append=False)
