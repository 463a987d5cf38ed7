"""The reference agent: the software on the device behind a screen. It speaks the wire contract.

``protocol`` is the part that the simulated devices share: no transport, no files, no clock.
"""
