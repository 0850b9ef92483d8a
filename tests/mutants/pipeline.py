"""Mutants of the pipeline."""

from __future__ import annotations

from tests.mutants import Mutant

SPLITS = "tests/pipeline/test_splits.py"
SCORES = "tests/pipeline/test_scores.py"
TESTS = {
    "*": (SPLITS,),
    "bootstrap.py": ("tests/pipeline/test_table3.py", SCORES, "-k", "table3 or resample"),
    "scores.py": (SCORES, SPLITS, "-k", "agreement or errors or draws or bytes or splits"),
    "score.py": (SCORES, SPLITS, "-k", "best_component or worst_scene or splits"),
    "table3.py": ("tests/pipeline/test_table3.py",),
    "faults.py": ("tests/pipeline/test_faults.py",),
    "fault_table.py": ("tests/pipeline/test_faults.py",),
    "mistakes.py": ("tests/pipeline/test_report.py", "-k", "mistakes"),
}

MUTANTS = (
    Mutant(
        "a VAE trained on the test split",
        "train_vae.py",
        '{m: dataset.array(m, "train") for m in modalities}',
        '{m: dataset.array(m, "test") for m in modalities}',
    ),
    Mutant(
        "a VAE's validation on the test split",
        "train_vae.py",
        'dataset.array(m, "validation")',
        'dataset.array(m, "test")',
    ),
    Mutant(
        "a detector trained on the test split",
        "train_detector.py",
        '        dataset.array(modality, "train"),\n        dataset.boxes(modality, "train"),\n',
        '        dataset.array(modality, "test"),\n        dataset.boxes(modality, "test"),\n',
    ),
    Mutant(
        "a detector's test on validation",
        "train_detector.py",
        'detect(dataset.array(modality, "test")),\n        dataset.boxes(modality, "test"),\n',
        'detect(dataset.array(modality, "validation")),\n'
        '        dataset.boxes(modality, "validation"),\n',
    ),
    Mutant(
        "scores on the training split",
        "score.py",
        'judge_of("test", params.scenes, params.resamples)',
        'judge_of("train", params.scenes, params.resamples)',
    ),
    Mutant(
        "a component chosen on test scenes",
        "score.py",
        "partial(quality, decode, held_out, g, c)",
        "partial(quality, decode, judge, g, c)",
    ),
    Mutant(
        "faults on the training split",
        "score_faults.py",
        'Scene.load(dataset, "test", names, faults.scenes)',
        'Scene.load(dataset, "train", names, faults.scenes)',
    ),
    Mutant(
        "truths of other scenes",
        "scores.py",
        "dataset.boxes(m, split, most)",
        'dataset.boxes(m, "train", most)',
    ),
    Mutant(
        "the worst component called the best",
        "score.py",
        "return max(live, key=",
        "return min(live, key=",
    ),
    Mutant(
        "the best scene called the worst",
        "score.py",
        "wrong.sum(1).argmax()",
        "wrong.sum(1).argmin()",
    ),
    Mutant(
        "intervals of 90 %",
        "bootstrap.py",
        "[50 * (1 - LEVEL), 50 * (1 + LEVEL)]",
        "[100 * (1 - LEVEL), 100 * LEVEL]",
    ),
    Mutant(
        "the figure among its own resamples",
        "bootstrap.py",
        "np.percentile(values[1:], ",
        "np.percentile(values, ",
    ),
    Mutant(
        "resamples that are not paired",
        "bootstrap.py",
        "np.random.default_rng([seed, scenes])",
        "np.random.default_rng()",
    ),
    Mutant(
        "errors of all scenes in every resample",
        "scores.py",
        "weights = self.copies / self.copies.sum(1, keepdims=True)",
        "weights = np.ones_like(self.copies) / self.copies.shape[1]",
    ),
    Mutant(
        "agreement by the other modality's objects",
        "scores.py",
        "for d in reference\n",
        "for d in found\n",
    ),
    Mutant(
        "draws keyed by the place in a batch",
        "scores.py",
        "np.random.default_rng([seed, int(scene)])",
        "np.random.default_rng([seed, row])",
    ),
    Mutant(
        "the synergy's sign",
        "table3.py",
        'gain = joint[f"synergy/{target}"] - alone[target]',
        'gain = alone[target] - joint[f"synergy/{target}"]',
    ),
    Mutant(
        "a deviation over seeds as if they were all",
        "table3.py",
        "statistics.stdev(",
        "statistics.pstdev(",
    ),
    Mutant(
        "faults drawn by severity",
        "faults.py",
        "np.random.default_rng([seed, int(scene), key])",
        "np.random.default_rng([seed, int(scene), key, int(100 * severity)])",
    ),
    Mutant(
        "noise that wraps around",
        "faults.py",
        ".round().clip(0, 255).astype(np.uint8)",
        ".round().astype(np.int64).astype(np.uint8)",
    ),
    Mutant(
        "dead pixels mostly black",
        "faults.py",
        "values < 0.5",
        "values < 0.9",
    ),
    Mutant(
        "every shift to the right",
        "faults.py",
        "(1 if rng.random() < 0.5 else -1)",
        "(1 if rng.random() < 2 else -1)",
    ),
    Mutant(
        "every blackout at the top",
        "faults.py",
        "at = rng.random(2)",
        "at = rng.random(2) * [0, 1]",
    ),
    Mutant(
        "the mildest fault called the worst",
        "fault_table.py",
        "worst = min(spoiled",
        "worst = max(spoiled",
    ),
    Mutant(
        "an overlap of exactly a half misses",
        "mistakes.py",
        "iou.max() >= OVERLAP",
        "iou.max() > OVERLAP",
    ),
)
