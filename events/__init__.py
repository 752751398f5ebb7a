"""The event: what it is, the rules it keeps, and the row it becomes.

Pure functions of values: nothing here reads a clock, a socket or the environment. The ingester,
a replay and the collecting API run the same code, so that they cannot disagree.
"""
