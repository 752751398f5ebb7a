"""Benchmarks: what is measured uses memory as the commands do."""

from footfall.loop import keep_memory

keep_memory()
