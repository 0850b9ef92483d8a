"""Every command of the pages in docs/guide is run, at smoke scale, in a clone of its own.

A fenced block is typed as it stands: `bash` and `python` are run, `yaml` is set in params.yaml,
`diff` is applied, a block after "Write `file`:" becomes that file. `bash background` runs beside
the page and is stopped at its end. `bash gpu` and `bash slurm` need what CI has not, and the page
says so: lines of the one must be refused for want of a GPU, the other has stand-ins for Slurm.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from detector import trained
from models.vae import MultimodalVAE
from scenegen.dataset import open_dataset
from scenegen.params import SENSORS as MODALITIES
from tests.conftest import ROOT, run
from tests.pipeline.test_stages import STAGES, change, stale
from tests.pipeline.test_team import committed, ran

PAGES = ROOT / "docs/guide"
WRITTEN = (
    ROOT / name
    for name in run(ROOT, "git", "ls-files", "-co", "--exclude-standard", "*.md").stdout.split()
)
TEXTS = sorted(path for path in WRITTEN if path.exists())
OTHERWISE = ("bash background", "bash gpu", "bash slurm")
RUN = sorted(p.name for p in PAGES.glob("*.md") if "```" in p.read_text())


class Block(NamedTuple):
    """A fenced block: its language and words, its text, and the file it is to be written to."""

    kind: str
    text: str
    file: str | None


def blocks(page: str) -> list[Block]:
    found = re.finditer(
        r"(?:Write\s+`([^`]+)`:\n\n)?^```([a-z ]+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    return [Block(m[2], m[3], m[1]) for m in found]


def merge(into: Any, values: Any) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def set_params(project: Path, text: str) -> None:
    yaml = YAML()
    document = yaml.load((project / "params.yaml").read_text())
    merge(document, YAML(typ="safe").load(text))
    yaml.dump(document, project / "params.yaml")


@contextmanager
def beside(project: Path, command: str) -> Iterator[None]:
    """A program of the page that runs until the page ends."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = subprocess.Popen(
        ["bash", "-c", command],
        cwd=project,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(program.pid, signal.SIGTERM)
        program.wait(60)


def joined(found: list[Block]) -> Iterator[Block]:
    """The blocks, with those of Python that follow one another as the one notebook they are."""
    for python, group in groupby(found, key=lambda b: b.kind == "python" and not b.file):
        same = list(group)
        yield from [Block("python", "\n".join(b.text for b in same), None)] if python else same


def follow(
    page: str, project: Path, before: Callable[[str, Path], None] = lambda text, project: None
) -> str:
    """Do what the page says; everything that its commands printed.

    Args:
        before: called ahead of each block of commands.
    """
    shown = []
    with ExitStack() as stack:
        for kind, text, file in joined(blocks(page)):
            if file:
                (project / file).write_text(text)
            elif kind == "bash":
                before(text, project)
                shown.append(run(project, "bash", "-euo", "pipefail", "-c", text).stdout)
            elif kind == "bash background":
                stack.enter_context(beside(project, text))
            elif kind == "python":
                shown.append(run(project, "python", "-c", text).stdout)
            elif kind == "yaml":
                set_params(project, text)
            elif kind == "diff":
                patch = project / ".cache/page.diff"
                patch.write_text(text)
                run(project, "git", "apply", "--unidiff-zero", str(patch))
            elif kind == "bash gpu":
                for command in text.splitlines():
                    refused(command, project)
            else:
                assert kind in ("bash slurm", "mermaid"), f"nobody runs {kind}"
    return "\n".join(shown)


def refused(command: str, project: Path) -> None:
    """For want of a GPU, before any stage runs."""
    done = run(project, "bash", "-c", command, check=False, CUDA_VISIBLE_DEVICES="")
    assert done.returncode, command
    assert "torch finds 0 GPUs here" in done.stderr
    assert ran(done.stdout) == set()


# What a page promises besides that its commands succeed: (what they printed, the project).
def fusion(shown: str, project: Path) -> None:
    stages = {f"{s}@mine-none-0" for s in ("train_vae", "score", "score_faults")}
    assert ran(shown) == stages | {"check", "summary", "report"}
    assert "| mine |" in (project / "results/table3.md").read_text()


def scenes(shown: str, project: Path) -> None:
    assert (project / "data/preview.png").read_bytes()[:4] == b"\x89PNG"
    dataset = open_dataset(project / "data/shapes3d")
    scale = dataset.records("train")["scale"]
    assert 0.6 <= scale[scale > 0].min() <= scale.max() <= 0.7
    ambient = dataset.records("train")["light"][:, 4]
    assert 0.3 < (ambient < ambient.max()).mean() < 0.7  # by night
    assert re.search(r"left +train_vae@|stale +train_vae@", shown)
    assert {"render", "train_detector@image", "train_vae@poe-none-0", "report"} <= ran(shown)
    assert stale(project) == set()


def object_class(shown: str, project: Path) -> None:
    manifest = json.loads((project / "data/shapes3d/manifest.json").read_text())
    assert manifest["classes"][-1] == "disc"
    assert (np.load(project / "data/shapes3d/shard-00000.npy")["label"] == 4).any()
    assert ran(shown) == {"check", "render", *(f"train_detector@{m}" for m in MODALITIES)}
    for m in MODALITIES:
        assert trained.load(project / f"data/detectors/{m}.safetensors").classes[4:] == ("disc",)


def detector(shown: str, project: Path) -> None:
    assert ran(shown) == {"check", "train_detector@depth"}
    load = "from pathlib import Path; from detector import trained; "  # there alone is that kind
    load += "print(trained.load(Path('data/detectors/depth.safetensors')).params.network)"
    assert run(project, "python", "-c", load).stdout == "cells\n"


def share(shown: str, project: Path) -> None:
    model = project.parent / "colleague/data/models/poe-ecg-0.safetensors"
    assert model.exists()
    assert ran(shown) == set()
    assert "up to date" in shown
    model.unlink()
    run(project.parent / "colleague", "dvc", "checkout", "dvc.yaml")  # of the table: a file is gone
    assert model.exists()


def experiments(shown: str, project: Path) -> None:
    assert "narrow" in shown
    wide = {"check", "train_vae@poe-ecg-0", "score@poe-ecg-0"}
    assert ran(shown) == wide | {"train_vae@poe-none-0"}
    assert re.search(r"results/models/poe-ecg-0.json +parameters +\d+ +\d+ +[1-9]", shown)
    assert "vae.latent" in shown
    assert "narrow-latent" in run(project, "git", "branch").stdout
    assert (project / "dvc_plots/index.html").exists()
    # It went back to the run that was there before, which nobody had committed.
    assert stale(project) == set()
    assert (project / "data/models/poe-none-0.safetensors").exists()


def machines(shown: str, project: Path) -> None:
    # The same bytes: what `train` found stale after it is the model that was taken away.
    assert {"render"} <= ran(shown) <= {"render", "summary", "report"}
    assert "3 stages done" in shown
    assert "1 stages done" in shown  # on the cluster
    assert (project / "data/models/poe-none-0.safetensors").exists()
    assert (project / "data/faults/poe-none-0.npz").exists()
    render, train = (
        block.text
        for block in blocks((PAGES / "machines.md").read_text())
        if block.kind == "bash slurm"
    )
    shutil.rmtree(project / "data/shapes3d")
    under_slurm(project, render)
    assert len(open_dataset(project / "data/shapes3d")) == 240
    (project / "data/models/poe-none-0.safetensors").unlink()
    shutil.rmtree(project / ".dvc/cache/runs")
    assert "3 stages done" in under_slurm(project, train)
    assert "--cpus-per-task=2 --gpus-per-task=1 " in (project / "grid.sh").read_text()
    assert stale(project) == set()


# As on a cluster of one node: a job's environment is what its #SBATCH line asks for, and what it
# leaves behind ends with it.
SBATCH = r"""#!/bin/bash
asked() { sed -nE "s/^#SBATCH.*--$1=([0-9]+).*/\1/p" "$script"; }
script=$1
export SLURM_JOB_ID=$$ SLURM_NTASKS=$(asked ntasks) SLURM_CPUS_PER_TASK=$(asked cpus-per-task)
set -m
timeout 300 bash "$script" &
wait $!
code=$?
kill -- -$!
exit $code
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'


def under_slurm(project: Path, commands: str) -> str:
    """Submit the page's job as one does, `sbatch` and `srun` being all that is not there."""
    binaries = project / ".venv/bin"
    binaries.mkdir(parents=True, exist_ok=True)
    (binaries / "activate").write_text("")  # this interpreter's environment is the one
    for name, text in (("sbatch", SBATCH), ("srun", SRUN)):
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    commands = f'PATH="{binaries}:$PATH"\n{commands}'
    return run(project, "bash", "-euo", "pipefail", "-c", commands).stdout


def modality(shown: str, project: Path) -> None:
    assert "torch.Size([4, 3, 64, 64])" in shown
    vae = MultimodalVAE.load(project / "data/normals.safetensors")
    assert set(vae.modalities) == {"image", "depth", "radar", "normals"}
    assert "params.yaml is valid" in shown
    alone = MultimodalVAE.load(project / "data/models/mine-0.safetensors")
    assert set(alone.modalities) == {"mine"}
    assert trained.load(project / "data/detectors/mine.safetensors").channels == 1


def own_images(shown: str, project: Path) -> None:
    assert "torch.Size([4, 3, 64, 64])" in shown


def gpu(shown: str, project: Path) -> None:
    assert "params.yaml is valid" in shown
    assert shown.count("12 stages") == 2  # done there, taken over here
    assert ran(shown) == {"check", "summary", "report"}
    assert not (project / "data/models").exists()


def interrupt(shown: str, project: Path) -> None:
    made = {f"{stage}@poe-none-0" for stage in ("train_vae", "score", "score_faults")}
    assert ran(shown) == {"check", "summary", "report"} | made
    assert "Everything is up to date." in shown
    # Back at the committed run, the model from DVC's cache, with nothing to do.
    changed = run(project, "git", "status", "--porcelain", "params.yaml", "dvc.lock", "results")
    assert changed.stdout == ""
    assert stale(project) == set()
    assert ran(run(project, "dvc", "repro", "dvc.yaml").stdout) == set()


def numpy(shown: str, project: Path) -> None:
    assert "(64, 64, 3) sRGB (64, 64) radar" in shown
    near, far = map(float, re.search(r"depth ([\d.]+) to ([\d.]+) m", shown).groups())  # type: ignore[union-attr]
    assert 4 < near < far <= 12
    assert "240 (180, 64, 64, 3)" in shown
    coco = json.loads(next((project / "data/coco").rglob("*.json")).read_text())
    assert {c["name"] for c in coco["categories"]} == {"cube", "cylinder", "sphere", "capsule"}


def notebook(shown: str, project: Path) -> None:
    assert "'image': (4, 3, 64, 64), 'depth': (4, 1, 64, 64), 'radar': (4, 1, 64, 64)" in shown
    assert "torch.Size([3, 3, 64, 64])" in shown
    assert shown.count(" objects [") == 4


def faulty_sensor(shown: str, project: Path) -> None:
    said = dict(line.split(" ", 1) for line in shown.splitlines())
    assert said["sensors"] == "('image', 'depth', 'radar')"
    assert len(literal_eval(said["named"])) == len(literal_eval(said["conflict"])) == 8
    left_out = literal_eval(said["left"].removeprefix("out "))
    for item, name in enumerate(literal_eval(said["named"])):
        assert [m for m, out in left_out.items() if out[item]] == [name] * (name is not None)
    # Validation is every twentieth of 240 scenes.
    assert said["clean"] == "scenes 12"
    # As its training did, but for rounding.
    files = ("calibrated.safetensors", "models/poe-ecg-0.safetensors")
    again, trained_at = (MultimodalVAE.load(project / f"data/{f}").calibration for f in files)
    assert again is not None
    assert trained_at is not None
    torch.testing.assert_close(again.pairs, trained_at.pairs, rtol=1e-3, atol=1e-2)


PROMISES: dict[str, Callable[[str, Path], None]] = {
    "fusion.md": fusion,
    "scenes.md": scenes,
    "object-class.md": object_class,
    "detector.md": detector,
    "share.md": share,
    "experiments.md": experiments,
    "machines.md": machines,
    "modality.md": modality,
    "own-images.md": own_images,
    "gpu.md": gpu,
    "interrupt.md": interrupt,
    "numpy.md": numpy,
    "notebook.md": notebook,
    "faulty-sensor.md": faulty_sensor,
}


def without_scenes(project: Path) -> None:
    """As on a machine that has yet to render, and to train one model."""
    shutil.rmtree(project / "data/shapes3d")
    (project / "data/models/poe-none-0.safetensors").unlink()
    shutil.rmtree(project / ".dvc/cache/runs")


def uncommitted(project: Path) -> None:
    """As after the first run in a clone."""
    run(project, "git", "reset", "-q", "--soft", "HEAD~1")
    run(project, "git", "reset", "-q")


def one_cell(project: Path) -> None:
    """A grid that a study goes through in a minute or two, and an environment for `make`."""
    change(project, "grid.cells", {"poe-none": {"fusion": "poe", "objective": "none"}})
    run(project, "git", "commit", "-qam", "One cell")
    (project / ".venv").mkdir()
    (project / ".venv/ready").touch()


def another_cell(project: Path) -> None:
    """So that what the page makes is not the run that it goes back to."""
    wider = {"fusion": "poe", "objective": "none", "beta": 0.5}
    change(project, "grid.cells.poe-none", wider)


def faults_to_score(text: str, project: Path) -> None:
    """Leave the cluster something to do; it is one that lets nobody in without the key."""
    if "train --scheduler" in text:
        (project / "data/faults/poe-none-0.npz").unlink()
        assert (project / ".cache/dask/key.pem").stat().st_mode & 0o077 == 0
        for protocol in ("tcp", "tls"):
            address = f"{protocol}://127.0.0.1:8786"
            train = ("python", "-m", "pipeline", "train", "--scheduler", address)
            done = run(project, *train, check=False)
            assert done.returncode == 2
            assert done.stderr.startswith(f"no Dask scheduler answers at {address}")
            assert done.stderr.count("\n") == 1


PREPARED = {
    "machines.md": without_scenes,
    "interrupt.md": another_cell,
    "experiments.md": uncommitted,
    "gpu.md": one_cell,
    "scenes.md": one_cell,
}


BEFORE = {"machines.md": faults_to_score}


@pytest.mark.parametrize("name", RUN)
def test_a_page_does_what_it_says(
    name: str, smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKERS", "2")
    for key, value in (("NAME", "A"), ("EMAIL", "a@example.org")):
        monkeypatch.setenv(f"GIT_AUTHOR_{key}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{key}", value)
    assert name in PROMISES, "a page that promises nothing"
    project = committed(smoke, tmp_path / "project")
    PREPARED.get(name, lambda project: None)(project)
    before = BEFORE.get(name, lambda text, project: None)
    shown = follow((PAGES / name).read_text(), project, before)
    PROMISES[name](shown, project)


def test_the_index_lists_every_page() -> None:
    docs = ROOT / "docs"
    listed = re.findall(r"\]\((\S+\.md)\)", (docs / "README.md").read_text())
    pages = {p.relative_to(docs).as_posix() for p in docs.glob("*/*.md")}
    assert sorted(listed) == sorted(pages)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings: `## Two words!` is `#two-words`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        if not target.startswith("http"):
            found = page.parent / target if target else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda p: p.name)
def test_a_page_is_read_in_a_minute(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(text.replace("|", " ").split()) <= 400


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda p: p.name)
def test_no_block_is_passed_over(page: Path) -> None:
    """One of no language, or of one that nobody runs, would be."""
    text = page.read_text()
    found = blocks(text)
    assert len(re.findall(r"^ *(?:```|~~~)", text, re.MULTILINE)) == 2 * len(found)
    known = {"bash", "python", "yaml", "diff", "mermaid", *OTHERWISE}
    assert {block.kind for block in found if not block.file} <= known


def test_what_ci_cannot_run_says_so() -> None:
    for page in PAGES.glob("*.md"):
        text = page.read_text()
        for match in re.finditer(r"^```bash (gpu|slurm)$", text, re.MULTILINE):
            assert "<!-- needs" in text[: match.start()].splitlines()[-1]


@pytest.mark.slow
def test_the_picture_of_the_pipeline_is_dvcs_own_with_its_stages_grouped() -> None:
    """It draws no arrow that DVC does not, and leaves out those alone that others imply."""
    page = (ROOT / "docs/reference/pipeline.md").read_text()
    picture = next(b.text for b in blocks(page) if b.kind == "mermaid")
    drawn = set(re.findall(r"^  (\w+) --> (\w+)$", picture, re.MULTILINE))
    dag = run(ROOT, "dvc", "dag", "--md", "dvc.yaml").stdout
    names = dict(re.findall(r'(node\d+)\["(\w+)', dag))
    whole = {(names[a], names[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", dag)}
    assert set(names.values()) == set(STAGES)
    assert drawn <= whole
    assert implied(drawn) == implied(whole)


def implied(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows, and every longer way along them."""
    longer = arrows | {(a, d) for a, b in arrows for c, d in arrows if b == c}
    return arrows if longer == arrows else implied(longer)
