"""Stage `check`: validate the whole of a params.yaml before any other stage touches anything.

DVC deletes a stage's outputs before it runs its command, so a stage that refuses its own params
has already lost its last result. Every other stage depends on this one's constant output instead.

It also writes which code decides each stage, each cell of the grid and each detector
(`base/code.py`). A stage depends on these files and on no code, so that an edited fusion makes its
own cells stale and no others, and an edited docstring nothing.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from base import lockfile
from base.files import explained
from pipeline.cells import checked, write_checked
from pipeline.running.stage import fail
from pipeline.study import Study, asked_study

__all__ = ["main", "wanted"]


def wanted(study: Study) -> dict[str, bytes]:
    """What it writes: file below the folder of what is checked -> content, which changes if what
    it stands for does. One line per mistake in the params, and exit code 2."""
    config = study.load(study.part("params").Params)
    return checked(study.definition, *config.looked_up())


def main(study: Study) -> None:
    """Check the params, then write what the other stages depend on."""
    write_checked(study.checked, wanted(study))


if __name__ == "__main__":
    asked = asked_study(__doc__)
    lockfile.keep()
    try:
        main(asked)
    except OSError as error:
        fail(f"check: {explained(error)}; what is finished is kept. To go on: {asked.again}")
    lockfile.hand_over()
