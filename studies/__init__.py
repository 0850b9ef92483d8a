"""What each study of the paper is made of: Shapes 3D (Table III), MNIST-SVHN (I) and CUB (II)."""
