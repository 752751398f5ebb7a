"""Benchmarks, each beside a peer in the same run, and the figures that sizing rests on."""
