"""Grafana's boards, as code: `python -m dashboards.write` writes the JSON that Grafana reads.

A file a board; `panels` holds the nouns and how they are rendered.
"""
