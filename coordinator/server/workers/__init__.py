"""Several processes that serve the same ports: a parent that owns what there is once, and workers that do the work.

They share no memory and have no leader: each worker is a coordinator of its own on the same store, whose functions keep
them correct. The parent accepts connections and hands each to the worker with the fewest.
"""
