"""What the gateway costs, beside what others do for the same: one command, one table.

`python -m benchmarks --help` says how to run it; docs/benchmarks.md says what the numbers mean.
"""
