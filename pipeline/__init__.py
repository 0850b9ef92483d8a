"""Running the study: params, one module per DVC stage, scores, report."""
