"""Mutants of the pipeline."""

from __future__ import annotations

from tests.mutants import Mutant

SPLITS = "tests/pipeline/test_splits.py"
SCORES = "tests/pipeline/test_scores.py"
COLOURS = "tests/pipeline/test_colours.py"
LOADER = "../studies/shapes3d/loader.py"
TESTS = {
    "*": (SPLITS,),
    "scoring/bootstrap.py": (
        "tests/pipeline/test_table.py",
        SCORES,
        COLOURS,
        "-k",
        "table or resample or colours",
    ),
    "scoring/scores.py": (SCORES, SPLITS, "-k", "agreement or errors or bytes or splits"),
    "scoring/decoding.py": (SCORES, "-k", "best_component or draws"),
    "../studies/shapes3d/judge.py": (SCORES, "-k", "worst_scene"),
    "reporting/table.py": ("tests/pipeline/test_table.py",),
    "scoring/faults.py": ("tests/pipeline/test_faults.py",),
    "reporting/fault_table.py": ("tests/pipeline/test_faults.py",),
    "scoring/detection.py": ("tests/pipeline/test_detection.py",),
    "reporting/detection_table.py": ("tests/pipeline/test_detection.py",),
    "scoring/mistakes.py": ("tests/pipeline/test_report.py", COLOURS, "-k", "mistakes or colours"),
    "scoring/compared.py": (SCORES, COLOURS, "-k", "errors or colours"),
    "scoring/colours.py": (COLOURS,),
}

MUTANTS = (
    Mutant(
        "a VAE trained on the test split",
        LOADER,
        'dataset.array(m, "train")',
        'dataset.array(m, "test")',
    ),
    Mutant(
        "a VAE's validation on the test split",
        LOADER,
        'dataset.array(m, "validation")',
        'dataset.array(m, "test")',
    ),
    Mutant(
        "a detector trained on the test split",
        "stages/train_detector.py",
        '        dataset.array(modality, "train"),\n        dataset.boxes(modality, "train"),\n',
        '        dataset.array(modality, "test"),\n        dataset.boxes(modality, "test"),\n',
    ),
    Mutant(
        "a detector's test on validation",
        "stages/train_detector.py",
        'detect(dataset.array(modality, "test")),\n        dataset.boxes(modality, "test"),\n',
        'detect(dataset.array(modality, "validation")),\n'
        '        dataset.boxes(modality, "validation"),\n',
    ),
    Mutant(
        "scores on the training split",
        "stages/score.py",
        'bench.judge("test", params.scenes',
        'bench.judge("train", params.scenes',
    ),
    Mutant(
        "a component chosen on test scenes",
        "stages/score.py",
        "partial(quality, generate, held_out, g, c)",
        "partial(quality, generate, judge, g, c)",
    ),
    Mutant(
        "faults on the training split",
        "stages/score_faults.py",
        'scenes_of(dataset, "test", names, params.faults.scenes)',
        'scenes_of(dataset, "train", names, params.faults.scenes)',
    ),
    Mutant(
        "thresholds from the test split",
        "stages/score_faults.py",
        'dataset.array(m, "validation")',
        'dataset.array(m, "test")',
    ),
    Mutant(
        "truths of other scenes",
        "scoring/scores.py",
        "dataset.boxes(m, split, most)",
        'dataset.boxes(m, "train", most)',
    ),
    Mutant(
        "the worst component called the best",
        "scoring/decoding.py",
        "return max(live, key=",
        "return min(live, key=",
    ),
    Mutant(
        "the best scene called the worst",
        "../studies/shapes3d/judge.py",
        "wrong.sum(1).argmax()",
        "wrong.sum(1).argmin()",
    ),
    Mutant(
        "intervals of 90 %",
        "scoring/bootstrap.py",
        "[50 * (1 - LEVEL), 50 * (1 + LEVEL)]",
        "[100 * (1 - LEVEL), 100 * LEVEL]",
    ),
    Mutant(
        "the figure among its own resamples",
        "scoring/bootstrap.py",
        "np.percentile(values[1:], ",
        "np.percentile(values, ",
    ),
    Mutant(
        "resamples that are not paired",
        "scoring/bootstrap.py",
        "np.random.default_rng([seed, scenes])",
        "np.random.default_rng()",
    ),
    Mutant(
        "errors of all scenes in every resample",
        "scoring/compared.py",
        "weights = self.copies / self.copies.sum(1, keepdims=True)",
        "weights = np.ones_like(self.copies) / self.copies.shape[1]",
    ),
    Mutant(
        "agreement by the other modality's objects",
        "scoring/scores.py",
        "for d in reference\n",
        "for d in found\n",
    ),
    Mutant(
        "draws keyed by the place in a batch",
        "scoring/decoding.py",
        "np.random.default_rng([seed, int(number)])",
        "np.random.default_rng([seed, row])",
    ),
    Mutant(
        "the synergy's sign",
        "reporting/table.py",
        "gain: Values = score - alone",
        "gain: Values = alone - score",
    ),
    Mutant(
        "a deviation over seeds as if they were all",
        "reporting/table.py",
        "statistics.stdev(",
        "statistics.pstdev(",
    ),
    Mutant(
        "faults drawn by severity",
        "scoring/faults.py",
        "np.random.default_rng([seed, int(scene), key])",
        "np.random.default_rng([seed, int(scene), key, int(100 * severity)])",
    ),
    Mutant(
        "noise that wraps around",
        "scoring/faults.py",
        ".round().clip(0, 255).astype(np.uint8)",
        ".round().astype(np.int64).astype(np.uint8)",
    ),
    Mutant(
        "dead pixels mostly black",
        "scoring/faults.py",
        "values < 0.5",
        "values < 0.9",
    ),
    Mutant(
        "every shift to the right",
        "scoring/faults.py",
        "(1 if rng.random() < 0.5 else -1)",
        "(1 if rng.random() < 2 else -1)",
    ),
    Mutant(
        "every blackout at the top",
        "scoring/faults.py",
        "at = rng.random(2)",
        "at = rng.random(2) * [0, 1]",
    ),
    Mutant(
        "the mildest fault called the worst",
        "reporting/fault_table.py",
        "worst = min(spoiled",
        "worst = max(spoiled",
    ),
    Mutant(
        "an overlap of exactly a half misses",
        "scoring/mistakes.py",
        "iou.max() >= OVERLAP",
        "iou.max() > OVERLAP",
    ),
    Mutant(
        "ties count for nothing",
        "scoring/detection.py",
        "below[:, less] + below[:, most]",
        "below[:, less] + below[:, less]",
    ),
    Mutant(
        "AUROC of every scene once",
        "scoring/detection.py",
        "clean_weights[:, order].cumsum(1)",
        "np.ones_like(clean_weights).cumsum(1)",
    ),
    Mutant(
        "scenes that the fault left as they were count",
        "scoring/detection.py",
        "places = changed.nonzero()[0]",
        "places = np.arange(len(changed))",
    ),
    Mutant(
        "another sensor named counts as found out",
        "scoring/detection.py",
        "(named >= 0) & (named != m)",
        "(named >= 0)",
    ),
    Mutant(
        "the gain of rejection over no sensor",
        "reporting/detection_table.py",
        "100 * (auto - faulty), gain",
        "100 * auto, gain",
    ),
    Mutant(
        "what false alarms gain",
        "reporting/detection_table.py",
        '"lost": clean - without_alarms',
        '"lost": without_alarms - clean',
    ),
    Mutant(
        "a hue off by the longer way around",
        "scoring/colours.py",
        "np.abs((hue - true_hue + 0.5) % 1 - 0.5)",
        "np.abs(hue - true_hue)",
    ),
    Mutant(
        "grey is as good as the right hue",
        "scoring/colours.py",
        "np.where(coloured, apart, 0.25)",
        "np.where(coloured, apart, 0.0)",
    ),
    Mutant(
        "grey held against what was made",
        "scoring/colours.py",
        "np.where(defined, np.where",
        "np.where(coloured, np.where",
    ),
    Mutant(
        "an object's colour of the whole box",
        "scoring/colours.py",
        "low + (high - low) / 4), 0)",
        "low), 0)",
    ),
    Mutant(
        "hues of objects among those around them",
        "scoring/colours.py",
        "math.ceil(x2)] = np.nan",
        "math.ceil(x2)] += 0",
    ),
    Mutant(
        "an object's hue where it should be",
        "scoring/compared.py",
        "inner_colours(self.generated, scenes, found)",
        "inner_colours(self.generated, scenes, there)",
    ),
    Mutant(
        "a position off by the corners' distance",
        "scoring/compared.py",
        ".reshape(-1, 2, 2).mean(1)",
        "",
    ),
    Mutant(
        "counts of detections that are not sure",
        "scoring/compared.py",
        "(found.scores >= SURE).sum()",
        "(found.scores >= 0).sum()",
    ),
    Mutant(
        "hits of detections that are not sure",
        "scoring/mistakes.py",
        "sure = seen.scores >= SURE",
        "sure = seen.scores >= 0",
    ),
    Mutant(
        "diversity as a deviation",
        "scoring/compared.py",
        "samples.var(0).sum() / seen.var(0).sum()",
        "samples.std(0).sum() / seen.std(0).sum()",
    ),
    Mutant(
        "a mean over objects that forgets their scenes",
        "scoring/bootstrap.py",
        "drawn @ np.bincount(places, minlength=drawn.shape[1])",
        "np.full(len(drawn), len(places))",
    ),
)
