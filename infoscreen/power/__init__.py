"""The doors to outlets: one kind of outlet per module, all behind ``services.ports.PowerDriver``.

A driver speaks its protocol and raises ``PowerError``. When to switch, and whether it worked, is decided by
``domain.power`` alone; so a driver never repeats a request that switches, and never guesses a state.
"""
