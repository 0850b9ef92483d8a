"""What a module does as it is imported, which is nothing, and first as it is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPTS = [
    file.relative_to(ROOT)
    for room in ("pipeline", "studies")
    for file in sorted((ROOT / room).rglob("*.py"))
    if '__name__ == "__main__"' in file.read_text()
]
IMPORTS = """
import atexit, signal, sys
kinds = (signal.SIGINT, signal.SIGTERM)
before = [signal.getsignal(kind) for kind in kinds], sys.stdout.errors, atexit._ncallbacks()
sys.argv[0] = "-m"  # as while Python looks for a module that it is told to run
import pipeline, studies
after = [signal.getsignal(kind) for kind in kinds], sys.stdout.errors, atexit._ncallbacks()
assert before == after, (before, after)
assert not {name for name in sys.modules if name.startswith(("pipeline.", "studies.", "base"))}
"""


def test_an_import_of_a_package_does_nothing() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_can_be_interrupted_before_its_imports(script: Path) -> None:
    """`start` comes first; only what every module begins with stands above it."""
    first = next(
        node
        for node in ast.parse((ROOT / script).read_text()).body
        if not isinstance(node, ast.Expr)
        and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    )
    assert ast.unparse(first) == (
        "if __name__ == '__main__':\n    from base.process import start\n    start()"
    )
