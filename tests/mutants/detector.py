"""Mutants of the detector. That it finds anything is for test_yolo.py, which trains for minutes."""

from __future__ import annotations

from tests.mutants import Mutant

TRAINING = ("tests/detector/test_yolo.py", "tests/detector/test_training.py", "-k")
# Without those that train to the end, are killed or look for stray files.
BY_HAND = "own_call or limits or by_hand or reported or reach_the_loss or each_epoch or decay"
TESTS = {
    "*": (*TRAINING, BY_HAND),
    "kinds/__init__.py": ("tests/detector/test_kinds.py", "-k", "keys"),
    "augment.py": ("tests/detector/test_augment.py",),
    "metrics.py": ("tests/detector/test_metrics.py",),
}

MUTANTS = (
    Mutant(
        "the rate ends above LAST_RATE",
        "training.py",
        "(LAST_RATE + (1 - LAST_RATE) * fall)",
        "(0.1 + 0.9 * fall)",
    ),
    Mutant(
        "no warm-up",
        "training.py",
        "if done < params.warmup:",
        "if done < 0:",
    ),
    Mutant(
        "overlaps suppressed by the default alone",
        "kinds/yolov3.py",
        "params.nms_iou,",
        "0.6,",
    ),
    Mutant(
        "a floor that no param moves",
        "kinds/yolov3.py",
        "params.confidence_floor,",
        "0.01,",
    ),
    Mutant(
        "as many detections as the library keeps",
        "kinds/yolov3.py",
        "max_det=params.max_detections,",
        "",
    ),
    Mutant(
        "boxes by height and width",
        "boxes.py",
        "np.array([width, height, width, height], np.float32)",
        "np.array([height, width, height, width], np.float32)",
    ),
    Mutant(
        "corners in place of middles",
        "training.py",
        "(corners[:, :2] + corners[:, 2:]) / 2",
        "corners[:, :2]",
    ),
    Mutant(
        "biases decay",
        "training.py",
        '"weight_decay": 0.0}',
        '"weight_decay": params.weight_decay}',
    ),
    Mutant(
        "gradients are not clipped",
        "training.py",
        "    nn.utils.clip_grad_norm_(network.parameters(), CLIP)\n",
        "",
    ),
    Mutant(
        "every epoch of a detector alike",
        "training.py",
        "np.random.SeedSequence([seed, epoch])",
        "np.random.SeedSequence([seed])",
    ),
    Mutant(
        "training pictures reported as validation",
        "training.py",
        "    found = load(out, device).detect(val_images)\n"
        "    measured = mean_average_precision(found, val_boxes, len(classes))\n",
        "    found = load(out, device).detect(images)\n"
        "    measured = mean_average_precision(found, boxes, len(classes))\n",
    ),
    Mutant(
        "a checkpoint of another version of its kind",
        "training.py",
        'codes = [CODE, kinds.code_of(config["params"]["network"])]',
        "codes = [CODE]",
    ),
    Mutant(
        "keys that no kind declares",
        "kinds/__init__.py",
        "unknown = sorted(set(options) - set(declared.model_fields))",
        "unknown = []",
    ),
    Mutant(
        "precision read off at eleven recalls",
        "metrics.py",
        "RECALLS = np.linspace(0, 1, 101)",
        "RECALLS = np.linspace(0, 1, 11)",
    ),
    Mutant(
        "precision without its envelope",
        "metrics.py",
        "np.maximum.accumulate(precision[::-1], axis=0)[::-1]",
        "precision",
    ),
    Mutant(
        "ten detections of a picture count",
        "metrics.py",
        "MOST = 100",
        "MOST = 10",
    ),
    Mutant(
        "a class that no picture has counts as 0",
        "metrics.py",
        "occurring += (there > 0)[:, None]",
        "occurring += 1",
    ),
    Mutant(
        "a mirrored picture with its old boxes",
        "augment.py",
        "torch.stack([mirror * zoom, zoom], 1)",
        "torch.stack([zoom, zoom], 1)",
    ),
    Mutant(
        "most pictures mirrored",
        "augment.py",
        "torch.rand(n, generator=g) < p.flip",
        "torch.rand(n, generator=g) > p.flip",
    ),
    Mutant(
        "shifts twice as far",
        "augment.py",
        "shift = 2 * p.translate",
        "shift = 4 * p.translate",
    ),
    Mutant(
        "zooms half as far",
        "augment.py",
        "1 + p.scale * _uniform(n, g)",
        "1 + 0.5 * p.scale * _uniform(n, g)",
    ),
    Mutant(
        "boxes dropped that are half in sight",
        "augment.py",
        "VISIBLE = 0.3",
        "VISIBLE = 0.5",
    ),
    Mutant(
        "hues that do not turn",
        "augment.py",
        "2 * math.pi * p.hue",
        "0 * p.hue",
    ),
    Mutant(
        "contrast up as often as down",
        "augment.py",
        "1.5 * torch.rand(n, generator=g) - 1",
        "2 * torch.rand(n, generator=g) - 1",
    ),
)
