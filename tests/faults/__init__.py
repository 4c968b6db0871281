"""Faults, injected by the thousand: kills, errors, power losses, cut connections, crowds.

Each kind has a short version, which runs with the other tests, and one with the marker `long`. One command runs them all
and prints a table: `python -m tests.benchmarks.reliability`. A failed test prints its seed; CHATMEM_TEST_SEED repeats it.
"""
