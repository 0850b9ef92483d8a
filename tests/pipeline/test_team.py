"""What a team does with DVC: push, clone, pull, repro; experiments; and a remote gone wrong."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from safetensors import safe_open

from scenegen.dataset import open_dataset
from scenegen.params import SENSORS as MODALITIES
from tests.conftest import run
from tests.pipeline.test_stages import change, stale

pytestmark = pytest.mark.slow

KEYS = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def committed(smoke: Path, to: Path) -> Path:
    """A copy of the finished smoke run whose results are committed, as a team's are."""
    project = Path(shutil.copytree(smoke, to, symlinks=True))
    run(project, "git", "add", "--all")
    run(project, "git", *IDENTITY, "commit", "-q", "-m", "Our run", "--allow-empty")
    return project


@pytest.fixture
def project(smoke: Path, tmp_path: Path) -> Path:
    """The first member's folder."""
    return committed(smoke, tmp_path / "mine")


def share(project: Path, url: str, verify: bool = False) -> None:
    """The commands of docs/guide/share.md."""
    run(project, "dvc", "remote", "add", "--default", "team", url)
    if verify:
        run(project, "dvc", "remote", "modify", "team", "verify", "true")
    run(project, "git", *IDENTITY, "commit", "-q", "-m", "Our remote", ".dvc/config")
    run(project, "dvc", "push")


def clone(project: Path, to: Path) -> Path:
    """The second member's folder: what git holds and nothing else."""
    run(project.parent, "git", "clone", "-q", "--no-hardlinks", str(project), str(to))
    return to


def outputs(folder: Path) -> dict[str, bytes]:
    names = ("data/models", "data/detectors", "data/shapes3d", "data/samples")
    files = [p for name in names for p in sorted((folder / name).iterdir())]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def ran(shown: str) -> set[str]:
    """The stages that a `dvc repro` executed."""
    return set(re.findall(r"Running stage '([^']+)'", shown))


def test_a_clone_pulls_and_has_nothing_to_do(project: Path, tmp_path: Path) -> None:
    share(project, str(tmp_path / "remote"))
    theirs = clone(project, tmp_path / "theirs")
    assert not (theirs / "data/shapes3d").exists()
    run(theirs, "dvc", "pull", "dvc.yaml")
    assert outputs(theirs) == outputs(project)
    again = run(theirs, "dvc", "repro")
    assert ran(again.stdout) == set()
    assert "up to date" in again.stdout


def test_a_changed_param_runs_only_what_it_affects(project: Path, tmp_path: Path) -> None:
    share(project, str(tmp_path / "remote"))
    theirs = clone(project, tmp_path / "theirs")
    change(theirs, "report.examples", 3)
    run(theirs, "dvc", "pull", "dvc.yaml")
    assert ran(run(theirs, "dvc", "repro").stdout) == {"check", "report"}
    change(theirs, "score.samples", 10)
    assert stale(theirs) == {
        *(f"score@{c}-0" for c in ("moe-none", "poe-none", "poe-ecg")),
        *(f"score_unimodal@{m}-0" for m in ("image", "depth", "radar")),
    }


def test_one_output_can_be_had_alone(project: Path, tmp_path: Path) -> None:
    share(project, str(tmp_path / "remote"))
    theirs = clone(project, tmp_path / "theirs")
    run(theirs, "dvc", "pull", "render")
    assert len(open_dataset(theirs / "data/shapes3d")) == 240
    assert not (theirs / "data/models").exists()


def test_a_missing_object_is_named_and_can_be_pushed_again(project: Path, tmp_path: Path) -> None:
    share(project, str(tmp_path / "remote"))
    lost = project / "data/detectors/radar.safetensors"
    md5 = re.search(r"md5: (\w+)", _lock_entry(project, "data/detectors/radar.safetensors"))
    assert md5
    (tmp_path / "remote/files/md5" / md5[1][:2] / md5[1][2:]).unlink()
    theirs = clone(project, tmp_path / "theirs")
    pulled = run(theirs, "dvc", "pull", "dvc.yaml", check=False)
    assert pulled.returncode != 0
    assert "data/detectors/radar.safetensors" in pulled.stderr + pulled.stdout
    # Everything else was fetched: what is stale is this detector, and what reads it.
    found = stale(theirs)
    assert "train_detector@radar" in found
    rest = found - {"train_detector@radar"}
    assert {"score_unimodal@radar-0", "score@poe-ecg-0"} <= rest
    assert all(name.startswith("score") for name in rest)
    # The way out: whoever has it pushes again.
    run(project, "dvc", "push")
    run(theirs, "dvc", "pull", "dvc.yaml")
    assert (theirs / "data/detectors/radar.safetensors").read_bytes() == lost.read_bytes()
    assert stale(theirs) == set()


def _lock_entry(project: Path, path: str) -> str:
    text = (project / "dvc.lock").read_text()
    return text.split(f"- path: {path}\n", 1)[1].split("- path:")[0]


def _damage(remote: Path, project: Path) -> Path:
    """Flip one bit of a shard's object in a remote folder; the object's path."""
    shard = (project / "data/shapes3d/shard-00001.npy").read_bytes()
    stored = next(p for p in remote.rglob("*") if p.is_file() and p.read_bytes() == shard)
    stored.chmod(0o644)
    stored.write_bytes(shard[:-1] + bytes([shard[-1] ^ 1]))
    return stored


def test_a_corrupt_object_is_refused_by_its_hash(project: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    share(project, str(remote), verify=True)
    damaged = _damage(remote, project)
    md5 = damaged.parent.name + damaged.name
    theirs = clone(project, tmp_path / "theirs")
    pulled = run(theirs, "dvc", "pull", "dvc.yaml", check=False)
    assert pulled.returncode != 0
    # DVC names the output alone; docs/guide/share.md says what may be the matter with it.
    assert "Checkout failed for following targets:\ndata/shapes3d\n" in pulled.stderr
    # The way out for one: render it again, which gives the same bytes, so nothing else is stale.
    run(theirs, "dvc", "repro", "render", WORKERS="1")
    assert outputs(theirs) == outputs(project)
    assert stale(theirs) == set()
    # The way out for all: remove it and its folder's list, and whoever has the data pushes again.
    damaged.unlink(missing_ok=True)
    (listing,) = [p for p in remote.rglob("*.dir") if md5 in p.read_text()]
    listing.unlink()
    run(project, "dvc", "push")
    fresh = clone(project, tmp_path / "fresh")
    run(fresh, "dvc", "pull", "dvc.yaml")
    assert outputs(fresh) == outputs(project)


def test_without_verify_a_corrupt_shard_is_refused_when_it_is_read(
    project: Path, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    share(project, str(remote))
    _damage(remote, project)
    theirs = clone(project, tmp_path / "theirs")
    run(theirs, "dvc", "pull", "dvc.yaml", check=False)
    with pytest.raises(ValueError, match=r"shard-00001\.npy"):
        open_dataset(theirs / "data/shapes3d")


# --- an S3-compatible server -------------------------------------------------------------------


@pytest.fixture
def bucket() -> Iterator[str]:
    """The address of an S3 server on this machine that has a bucket `team`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    names = {key.lower(): value for key, value in KEYS.items() if "REGION" not in key}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **names).create_bucket(
        Bucket="team"
    )
    yield url
    server.stop()


def test_s3_serves_a_team(
    project: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    run(project, "dvc", "remote", "add", "--default", "team", "s3://team/shapes3d")
    run(project, "dvc", "remote", "modify", "team", "endpointurl", bucket)
    run(project, "git", *IDENTITY, "commit", "-q", "-m", "Our remote", ".dvc/config")
    run(project, "dvc", "push")
    theirs = clone(project, tmp_path / "theirs")
    run(theirs, "dvc", "pull", "dvc.yaml")
    assert outputs(theirs) == outputs(project)
    assert ran(run(theirs, "dvc", "repro").stdout) == set()


def test_a_remote_that_does_not_answer_is_said_so(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    run(project, "dvc", "remote", "add", "--default", "team", "s3://team/shapes3d")
    run(project, "dvc", "remote", "modify", "team", "endpointurl", f"http://127.0.0.1:{port}")
    shutil.rmtree(project / ".dvc/cache")
    pulled = run(project, "dvc", "pull", "train_detector@radar", check=False)
    assert pulled.returncode != 0
    assert "failed to connect to s3" in pulled.stderr


# --- metrics, plots, experiments ---------------------------------------------------------------


def test_metrics_are_a_row_per_run(project: Path) -> None:
    shown = json.loads(run(project, "dvc", "metrics", "show", "--json", "results/metrics").stdout)
    rows = shown[""]["data"]
    assert set(rows) == {
        f"results/metrics/{r}-0.json"
        for r in ("moe-none", "poe-none", "poe-ecg", "image", "depth", "radar")
    }
    found = rows["results/metrics/poe-ecg-0.json"]["data"]
    score = json.loads((project / "results/scores/poe-ecg-0.json").read_text())
    assert found["cross"]["image"] == score["subsets"]["depth+radar"]["image"]["map50"]
    assert found["all"]["depth"] == score["synergy"]["depth"]["map50"]
    # By default detectors and trainings are there too, and still no more than a screen holds.
    header = run(project, "dvc", "metrics", "show").stdout.splitlines()[0]
    assert len(header.split()) <= 20


def test_metrics_and_params_diff_tell_what_changed(project: Path) -> None:
    change(project, "vae.latent", 64)
    assert "vae.latent" in run(project, "dvc", "params", "diff").stdout
    file = project / "results/metrics/poe-ecg-0.json"
    figures = json.loads(file.read_text())
    figures["cross"]["image"] += 0.25
    file.write_text(json.dumps(figures))
    line = run(project, "dvc", "metrics", "diff").stdout.splitlines()[1]
    assert line.split()[:2] == ["results/metrics/poe-ecg-0.json", "cross.image"]
    assert float(line.split()[-1]) == pytest.approx(0.25)


@pytest.mark.parametrize("command", [("show",), ("diff", "HEAD")])
def test_plots_are_pictures_of_every_run(project: Path, command: tuple[str, ...]) -> None:
    bars = project / "results/scores.csv"
    header, first, *rest = bars.read_text().splitlines()
    changed = f"{first.rsplit(',', 1)[0]},0.98765"
    bars.write_text("\n".join([header, changed, *rest]) + "\n")
    run(project, "dvc", "plots", *command)
    page = (project / "dvc_plots/index.html").read_text()
    assert page.count("The headline metric of what each model generates") == 1
    assert page.count("Validation loss (nats a scene") == 1
    assert page.count("Validation curves by term and modality") == 1
    for part in ("kl", "image", "depth", "radar"):  # ecg has seven terms
        last = rf'"run": "poe-ecg-0", "part": "{part}", "term": "6", "step": "\d+", "nats"'
        assert re.search(last, page)
    for run_name in ("moe-none-0", "poe-none-0", "poe-ecg-0", "image-0"):
        assert page.count(f'"run": "{run_name}"') >= 5
    assert "<DVC_METRIC" not in page
    assert "0.98765" in page
    revisions = {"workspace", "HEAD"} if command[0] == "diff" else {"workspace"}
    assert set(re.findall(r'"rev": "(\w+)"', page)) == revisions


def test_an_experiment_runs_what_its_param_affects(project: Path) -> None:
    cells = {"poe-none": {"fusion": "poe", "objective": "none"}}
    change(project, "grid.cells", cells)
    run(project, "git", *IDENTITY, "commit", "-qam", "One cell")
    options = ("-S", "vae.latent=64", "-S", "vae.training.steps=4", "-n", "wide")
    done = run(project, "dvc", "exp", "run", *options)
    alone = {f"{stage}@{m}-0" for stage in ("train_unimodal", "score_unimodal") for m in MODALITIES}
    fused = {f"{stage}@poe-none-0" for stage in ("train_vae", "score", "score_faults")}
    assert ran(done.stdout) == {"check", "summary", "report"} | alone | fused
    with safe_open(project / "data/models/poe-none-0.safetensors", "np") as model:
        latents = {s for key in model.keys() for s in model.get_slice(key).get_shape()}  # noqa: SIM118
    assert 64 in latents
    text = (project / "params.yaml").read_text()
    assert "latent: 64 " in text
    assert "# latent dimensions L" in text
    workspace, *rest = json.loads(run(project, "dvc", "exp", "show", "--json").stdout)
    assert '"wide"' in json.dumps(rest)
    assert "results/models/poe-none-0.json" in workspace["data"]["metrics"]
