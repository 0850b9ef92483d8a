"""Running the study: params, one module per DVC stage, scores, report."""

import sys

from base.process import answer_while_starting, open_streams

# Python names a module that it is still looking for so: `python -m pipeline.STAGE`.
if sys.argv[0] == "-m":
    open_streams()
    answer_while_starting()
