"""The device's side of the wire contract: what goes in and what comes out.

It does no input or output and asks no clock, so agent and simulator run the same code.
"""
