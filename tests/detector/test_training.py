"""Training: the same bytes from the same seed, nothing lost when killed, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from ruamel.yaml import YAML
from torch.optim.optimizer import register_optimizer_step_pre_hook

from detector import kinds, trained, training
from detector.boxes import normalised
from detector.params import Augmentation
from tests.detector.drawn import CLASSES, SMALL, draw, truth

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PRESET = YAML(typ="safe").load(ROOT / "studies/shapes3d/presets/paper.yaml")
TINY = SMALL.model_copy(update={"width_multiple": 0.0625, "image_size": 32, "epochs": 3})

RUN = """
import sys
from pathlib import Path
import torch
from tests.detector.drawn import CLASSES, draw
from tests.detector.test_training import TINY
from detector.training import train
torch.set_num_threads(1)
train(*draw(160, 0), *draw(8, 1), CLASSES, TINY, Path(sys.argv[1]), scratch=Path(sys.argv[2]),
      seed=int(sys.argv[3]), device="cpu")
"""


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _report(out: Path, seed: int = 0, keep: bool = False, **changes: object) -> dict[str, float]:
    params = TINY.model_copy(update=changes)
    return training.train(
        *draw(160, 0),
        *draw(8, 1),
        CLASSES,
        params,
        out,
        scratch=out.parent / "scratch",
        seed=seed,
        device="cpu",
        keep=keep,
    )


def _train(out: Path, seed: int = 0, **changes: object) -> bytes:
    _report(out, seed, **changes)
    return out.read_bytes()


def test_a_seed_decides_the_bytes(tmp_path: Path) -> None:
    torch.manual_seed(5)
    first = _train(tmp_path / "a")
    np.random.default_rng().random()
    state = torch.random.get_rng_state()
    assert _train(tmp_path / "b") == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert _train(tmp_path / "c", seed=1) != first


def test_a_killed_training_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = _train(tmp_path / "whole")
    scratch, out = tmp_path / "scratch", tmp_path / "killed"
    assert not scratch.exists()
    process = subprocess.Popen([sys.executable, "-c", RUN, str(out), str(scratch), "0"], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not list(scratch.glob("*/*.checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(scratch.glob("*/*.checkpoint"))) == 1
    assert not out.exists()
    capfd.readouterr()
    assert _train(out) == whole
    assert "from epoch 2" in capfd.readouterr().err
    assert not scratch.exists()


@pytest.mark.parametrize("steps", [10, 13])
def test_a_training_goes_on_from_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Ten steps are an epoch; two and a half are asked for, of changing pictures."""
    changes = {"epochs": 2.5, "augmentation": Augmentation()}
    whole = _train(tmp_path / "whole", **changes)
    real, made = training._checkpoint, []

    def stops(*arguments: Any) -> None:
        real(*arguments)
        made.append(arguments[3])
        if made[-1] == steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(training, "_checkpoint", stops)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "a", **changes)
    assert made == list(range(1, steps + 1))
    monkeypatch.undo()
    assert _train(tmp_path / "a", **changes) == whole


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], share: float
) -> None:
    """As a computer that goes down may leave it."""
    first = _train(tmp_path / "a", keep=True, epochs=0.1)
    (checkpoint,) = (tmp_path / "scratch").glob("*/*.checkpoint")
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    capfd.readouterr()
    assert _train(tmp_path / "a", epochs=0.1) == first
    assert f"{checkpoint}: damaged, deleted" in capfd.readouterr().err


def test_a_kept_checkpoint_is_of_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What made of a detector was interrupted is made again without training it."""
    first = _train(tmp_path / "a", keep=True)
    monkeypatch.setattr(training, "_step", None)
    assert _train(tmp_path / "a") == first
    assert not (tmp_path / "scratch").exists()


def test_seconds_add_up_over_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = training._draws

    def slow(seed: int, epoch: int, n: int) -> object:
        if epoch == 0:
            time.sleep(1)
        if epoch == 1:
            raise KeyboardInterrupt
        return draws(seed, epoch, n)

    began = time.monotonic()
    monkeypatch.setattr(training, "_draws", slow)
    with pytest.raises(KeyboardInterrupt):
        _report(tmp_path / "a", epochs=2)
    monkeypatch.undo()
    resumed = time.monotonic()
    reported = _report(tmp_path / "a", epochs=2)["train_seconds"]
    ended = time.monotonic()
    assert ended - resumed < reported < ended - began


def test_a_checkpoint_serves_only_its_own_call(monkeypatch: pytest.MonkeyPatch) -> None:
    config = training._config(TINY, 3, CLASSES)
    images, truths = draw(4, 0)
    data = training._Data(images, *normalised(truths, 64, 64))
    other_images = data.images.copy()
    other_images[3, 0, 0, 0] ^= 1
    other_boxes = data.boxes + np.float32(0.01)
    longer = training._config(TINY.model_copy(update={"epochs": 4}), 3, CLASSES)
    cpu = torch.device("cpu")
    prints = {
        training._fingerprint(data, config, 0, cpu),
        training._fingerprint(data, config, 1, cpu),
        training._fingerprint(data, longer, 0, cpu),
        training._fingerprint(data, training._config(TINY, 3, ("square", "ball")), 0, cpu),
        training._fingerprint(
            training._Data(other_images, data.boxes, data.classes), config, 0, cpu
        ),
        training._fingerprint(
            training._Data(data.images, other_boxes, data.classes), config, 0, cpu
        ),
        training._fingerprint(
            training._Data(data.images, data.boxes, 1 - data.classes), config, 0, cpu
        ),
        training._fingerprint(data, config, 0, torch.device("cuda:0")),
    }
    assert len(prints) == 8
    assert training._fingerprint(data, config, 0, cpu) in prints
    with monkeypatch.context() as edited:
        edited.setattr(kinds, "code_of", lambda name: f"another {name}")
        assert training._fingerprint(data, config, 0, cpu) not in prints
    monkeypatch.setattr(torch, "__version__", "0")
    assert training._fingerprint(data, config, 0, cpu) not in prints


GUARDED = (
    """
import os, socket, sys

def refuse(*arguments, **options):
    raise AssertionError(f"asked the network for {arguments}")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
socket.create_connection = refuse
before = dict(os.environ)
"""
    + RUN.replace("device=", "progress=False, device=")
    + """
from detector.trained import load
found = load(Path(sys.argv[1]), "cpu").detect(draw(4, 2)[0])
assert len(found) == 4
changed = {k for k in before | dict(os.environ) if before.get(k) != os.environ.get(k)}
assert not [k for k in changed if k.startswith("YOLO")], changed
"""
)


def test_no_network_and_no_file_but_the_output(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("home", "temporary", "here", "out")}
    for folder in folders.values():
        folder.mkdir()
    folders["home"].chmod(0o555)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("XDG", "YOLO", "MPL"))},
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    out = folders["out"] / "detector.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, str(out), str(tmp_path / "scratch"), "0"],
        cwd=folders["here"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [out]


def test_one_file_without_pickle(tmp_path: Path) -> None:
    content = _train(tmp_path / "a", epochs=1)
    tensors = safetensors.numpy.load(content)
    assert all(np.isfinite(t).all() for t in tensors.values())
    detector = trained.load(tmp_path / "a", "cpu")
    assert (detector.classes, detector.channels) == (CLASSES, 3)
    assert detector.params.epochs == 1
    safetensors.numpy.save_file(tensors, tmp_path / "other")
    with pytest.raises(ValueError, match="another program wrote it"):
        trained.load(tmp_path / "other")


@pytest.mark.parametrize("network", ["yolov3", "yolov3-tiny"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_network_and_precision_trains(tmp_path: Path, network: str, precision: str) -> None:
    _train(tmp_path / "a", network=network, precision=precision, epochs=1, image_size=64)
    weights = trained.load(tmp_path / "a", "cpu").network.state_dict()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    found = trained.load(tmp_path / "a", "cpu").detect(draw(3, 0)[0])
    assert all(np.isfinite(d.boxes).all() and (d.scores > 0).all() for d in found)


def test_the_full_network_trains(tmp_path: Path) -> None:
    """What the paper preset asks for, at a size at which a CPU bears two steps of it."""
    full = PRESET["detector"]["default"]
    assert (full["width_multiple"], full["depth_multiple"]) == (1, 1)
    params = TINY.model_copy(update={**full, "image_size": 32, "epochs": 0.1, "batch": 8})
    out = tmp_path / "a"
    told = training.train(
        *draw(160, 0), *draw(8, 1), CLASSES, params, out, scratch=tmp_path, seed=0, device="cpu"
    )
    # Its backbone and neck with ultralytics' anchor-free head; with the head of 2018 it is 61.9 M.
    assert told["parameters"] == pytest.approx(103.7e6, rel=0.005)
    weights = trained.load(out, "cpu").network.state_dict()
    begun = (
        training._build(training._config(params, 3, CLASSES), 0).fuse(verbose=False).state_dict()
    )
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert any(not torch.equal(weights[key], begun[key]) for key in weights)


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 5), (1.5, 15)])
def test_an_epoch_may_be_a_part_of_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], epochs: float, steps: int
) -> None:
    _train(tmp_path / "a", epochs=epochs)
    assert f"detector: {steps}/{steps} steps, " in capfd.readouterr().err


def test_the_rate_by_hand(tmp_path: Path) -> None:
    """A rise from a tenth of the peak over a twentieth of the steps, then a cosine to 1 %."""
    at = [training._rate(done, TINY) / TINY.learning_rate for done in (0, 0.025, 0.05, 0.525, 1)]
    assert at == pytest.approx([0.1, 0.55, 1, 0.505, 0.01])
    used: list[float] = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: used.extend(g["lr"] for g in optimizer.param_groups)
    )
    _train(tmp_path / "a", epochs=1)
    handle.remove()
    shares = [used[i] / TINY.learning_rate for i in (0, 1, -2, -1)]  # of steps 0 and 9 of 10
    assert shares == pytest.approx([0.1, 0.1, 0.036821, 0.036821], rel=1e-4)


def test_what_is_reported_is_of_the_validation_pictures(tmp_path: Path) -> None:
    """Of pictures without an object no precision is defined."""
    images, boxes = draw(160, 0)
    for seen, told in (((images[:4], boxes[:4]), False), ((images[:4], [truth()] * 4), True)):
        report = training.train(
            *(images, boxes), *seen, CLASSES, TINY.model_copy(update={"epochs": 0.1}),
            tmp_path / "a", scratch=tmp_path / "scratch", seed=0, device="cpu",
        )  # fmt: skip
        assert np.isnan(report["map50"]) == told


def test_boxes_reach_the_loss_as_fractions_of_the_side() -> None:
    """Of a picture twice as wide as high: x by 64, y by 32."""
    truths = [truth(), truth((16, 8, 32, 24, 1), (0, 0, 64, 8, 0))]
    boxes, classes = normalised(truths, 32, 64)
    assert boxes[1].tolist() == [[0.25, 0.25, 0.5, 0.75], [0, 0, 1, 0.25]]
    assert classes.tolist() == [[-1, -1], [1, 0]]
    data = training._Data(np.zeros((2, 32, 64, 3), np.uint8), boxes, classes)
    unchanged = Augmentation(flip=0, scale=0, translate=0)
    params = TINY.model_copy(update={"augmentation": unchanged})
    _, objects = training._batch(data, np.array([1, 0]), params, torch.Generator())
    assert objects.boxes.tolist() == [[0.375, 0.5, 0.25, 0.5], [0.5, 0.125, 1, 0.25]]
    assert objects.classes.tolist() == [1, 0]
    assert objects.pictures.tolist() == [0, 0]


def test_each_epoch_has_an_order_and_changes_of_its_own() -> None:
    orders, changes = [], []
    for epoch in (0, 1, 0):
        order, generator = training._draws(3, epoch, 20)
        orders.append(order.tolist())
        changes.append(torch.rand(4, generator=generator).tolist())
        assert sorted(order) == list(range(20))
    for drawn in (orders, changes):
        assert drawn[0] == drawn[2] != drawn[1]


def test_weights_alone_decay_and_gradients_are_clipped() -> None:
    network = training._build(training._config(TINY, 3, CLASSES), 0)
    optimizer = training._optimizer(network, TINY)
    decay = {id(w): g["weight_decay"] for g in optimizer.param_groups for w in g["params"]}
    learnt = [(name, w) for name, w in network.named_parameters() if w.requires_grad]
    assert {decay[id(w)] for name, w in learnt if "conv.weight" in name} == {5e-4}
    assert {decay[id(w)] for name, w in learnt if "bn." in name or "bias" in name} == {0}
    network.args = SimpleNamespace(box=7500, cls=500, dfl=1500)  # a thousand times the usual
    images, truths = draw(8, 0)
    data = training._Data(images, *normalised(truths, 64, 64))
    batch = training._batch(data, np.arange(8), TINY, torch.Generator())
    training._step(network.train(), optimizer, *batch, TINY.precision)
    norm = torch.stack([w.grad.norm() for _, w in learnt if w.grad is not None]).norm()
    assert norm.item() == pytest.approx(10, rel=1e-3)


def test_mistakes_are_named(tmp_path: Path) -> None:
    images, truths = draw(4, 0)

    def refused(match: str, *arrays: object, params: object = TINY) -> None:
        with pytest.raises(ValueError, match=match):
            training.train(
                *arrays, *draw(2, 1), CLASSES, params, tmp_path / "a", scratch=tmp_path, seed=0
            )

    refused("4 pictures and 3 lists", images, truths[:3])
    refused("float64", images / 255, truths)
    refused(r"\(4, 64, 64, 2\)", images[..., :2], truths)
    refused("have 1 channels, those for validation 3", images[..., :1], truths)
    more = [(np.zeros((3, 4), np.float32), np.zeros(2, np.int64)), *truths[1:]]
    refused(r"picture 0: boxes \(3, 4\) with 2 classes", images, more)
    refused(r"picture 0: classes", images, [(b, c + 2) for b, c in truths])
    colourful = TINY.model_copy(update={"augmentation": Augmentation(hue=0.1)})
    refused("augmentation.hue must be 0", images[..., :1], truths, params=colourful)
    assert list(tmp_path.iterdir()) == []


def test_a_log_gets_plain_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _train(tmp_path / "a", epochs=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("detector: 10/10 steps, ")
    assert "s left, epoch 1/1, loss " in err
    assert "\r" not in err
