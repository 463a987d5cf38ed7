"""What must happen: pure rules on the standard library alone.

No I/O, no asyncio, no clock: ``now`` is an argument.
"""
