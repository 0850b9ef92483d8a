"""Detectors on arrays, and the mean average precision of what it finds; import the submodules."""
