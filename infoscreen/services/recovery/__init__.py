"""The automatic recovery as a service: the loop, what it looks at, what it writes down, and pausing it."""
