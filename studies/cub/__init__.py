"""CUB Image-Captions: features of photographs and their captions (Table II)."""

from __future__ import annotations

from pipeline.study import Study

__all__ = ["CUB"]

CUB = Study("cub")
