"""A process that does nothing, and says how late it was at it: the machine's own share in every lateness.

``python -m benchmarks.idle SECONDS`` writes milliseconds, one reading to a line.
"""

import asyncio
import sys
import time

import uvloop

from benchmarks.figures import NotMeasured
from infoscreen.services.monitoring import LAG_SECONDS


async def be_late(seconds: float) -> list[float]:
    """Measure how late an event loop without anything to do is, as the daemon measures its own."""
    late: list[float] = []
    for _ in range(round(seconds / LAG_SECONDS)):
        before = time.perf_counter()
        await asyncio.sleep(LAG_SECONDS)
        late.append((time.perf_counter() - before - LAG_SECONDS) * 1000)
    return late


async def lateness(seconds: float) -> list[float]:
    """Run the process beside whatever else is measured, and return its readings."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.idle", str(seconds)), stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise NotMeasured("the idle process failed")
    return [float(line) for line in output.split()]


if __name__ == "__main__":
    print(*uvloop.run(be_late(float(sys.argv[1]))), sep="\n")  # noqa: T201 - read by lateness()
