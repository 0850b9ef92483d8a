"""Multimodal variational autoencoders: fusions x objectives, one short file per entry."""
