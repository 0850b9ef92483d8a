"""The paper's two other studies, MNIST-SVHN (Table I) and CUB Image-Captions (Table II)."""
