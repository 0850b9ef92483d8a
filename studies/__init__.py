"""The paper's two other studies, MNIST-SVHN (Table I) and CUB Image-Captions (Table II)."""

import pipeline  # noqa: F401  (it says what Ctrl-C means while a stage starts)
