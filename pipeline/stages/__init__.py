"""One script a stage of dvc.yaml, read from top to bottom: params, inputs, work, outputs."""
