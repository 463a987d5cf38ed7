"""Performance figures: each is a ratio of two things measured in one run, as machines are noisy.

``python -m benchmarks`` runs them all, prints a table and writes ``benchmarks/results.json``. Nothing in here
is a test: no figure ever fails a build.
"""
