"""MNIST-SVHN: handwritten digits and street numbers of the same class (Table I)."""

from __future__ import annotations

from pipeline.study import Study

__all__ = ["MNIST_SVHN"]

MNIST_SVHN = Study("mnist_svhn")
