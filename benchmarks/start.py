"""From starting the process to being ready, and whether that takes longer the larger the fleet is."""

import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.daemon import installed
from benchmarks.figures import Figure, Wanted
from benchmarks.rig import running_broker
from benchmarks.sizes import Sizes


async def measure(sizes: Sizes) -> list[Figure]:
    """Start daemons of each fleet size in turn, so that a busy moment meets all of them."""
    seconds: dict[int, list[float]] = {clients: [] for clients in sizes.fleets}
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            rig = await stack.enter_async_context(running_broker(folder / "broker"))
            daemons = {
                clients: await stack.enter_async_context(installed(rig, folder / str(clients), clients))
                for clients in sizes.fleets
            }
            for _ in range(sizes.starts):
                for clients, daemon in daemons.items():
                    seconds[clients].append(await daemon.start())
                    await daemon.stop()
    medians = {clients: statistics.median(taken) for clients, taken in seconds.items()}
    small, _, large = sizes.fleets
    detail = f"start to ready, s, median of {sizes.starts}, fastest and slowest by fleet: " + ", ".join(
        f"{clients:,}: {medians[clients]:.2f} ({min(taken):.2f} to {max(taken):.2f})"
        for clients, taken in seconds.items()
    )
    return [
        Figure(f"start to ready with {large:,} clients", medians[large], Wanted.AT_MOST, 2, "s", detail),
        Figure(
            f"start to ready with {large:,} / {small:,} clients",
            medians[large] / medians[small],
            Wanted.AT_MOST,
            1.2,
            "",
            detail,
        ),
    ]
