"""Benchmarks: the coordinator beside the bare libraries it stands on, as ratios in one run.

`python -m bench` starts every server and the load generator itself; README.md says what is measured and how.
"""
