"""Running the study: params, one module per DVC stage, scores, report."""

import sys

from base.process import answer_while_starting

# Python names a module that it is still looking for so: `python -m pipeline.STAGE`.
if sys.argv[0] == "-m":
    answer_while_starting()
