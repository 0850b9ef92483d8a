"""Around the stages: params read, locks, last words, stages side by side, DVC's record, status.

As in `base/`, no byte of a result is decided here (`base/code.py`).
"""
