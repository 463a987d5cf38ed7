"""The daemon's own services on a virtual clock, fed by lines and answering with lines. No rule lives here.

Other programs can drive the recovery with simulated devices through it: see ``docs/judge.md``.
"""

from infoscreen.judge.court import Judge
from infoscreen.judge.lines import BadLine

__all__ = ["BadLine", "Judge"]
