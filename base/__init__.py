"""The ground floor: files, checkpoints, progress, processes, digests of code.

Nothing here decides a byte of a result, so that no stage becomes stale by a change of it
(`base/code.py`).
"""
