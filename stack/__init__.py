"""The embedded stack: a real TimescaleDB and a real Apache Kafka, with no Docker and no root.

It serves the demo, the tests and a developer's laptop. It is no place for a shop's real data.
"""
