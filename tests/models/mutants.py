"""Breaks the models on purpose, one line at a time, and says which test notices.

    python -m tests.models.mutants [WORD ...]     # about 15 s a mutant; only names with a WORD

A mutant that survives, or a line that is no longer there to be changed, ends in exit code 1.
README.md has the table that a run printed. Not collected by pytest, but for `test_mutants.py`,
which holds the list against the code.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FILES = ("objectives", "fusions", "likelihoods", "bound", "vae", "training")


class Mutant(NamedTuple):
    """In models/`file`, `old` (there once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "rbcm's sign",
        "fusions/rbcm.py",
        "-0.5 * experts.var.log()",
        "0.5 * experts.var.log()",
    ),
    Mutant(
        "bce: argmin to argmax",
        "fusions/bce.py",
        "torch.where(experts.present, experts.var, torch.inf).argmin(0)",
        "torch.where(experts.present, experts.var, -torch.inf).argmax(0)",
    ),
    Mutant(
        "lcd's mask inverted",
        "objectives/lcd.py",
        ">= cell.alpha",
        "< cell.alpha",
    ),
    Mutant(
        "rce drawn per sample",
        "fusions/rce.py",
        "draws.uniform(shape, experts.mean) * count",
        "draws.uniform(shape, experts.mean)[..., :1].expand(shape) * count",
    ),
    Mutant(
        "lost -log K",
        "vae.py",
        "each = log_w.logsumexp(0) - math.log(len(log_w))",
        "each = log_w.logsumexp(0)",
    ),
    Mutant(
        "DReG's lost -log K",
        "vae.py",
        "each + log_w.detach().logsumexp(0) - math.log(len(log_w))",
        "each + log_w.detach().logsumexp(0)",
    ),
    Mutant(
        "K > 1: the curves' fit by equal shares",
        "vae.py",
        "fit = (weight * (share * log_p).sum(1)).sum(1)",
        "fit = (weight * log_p.mean(1)).sum(1)",
    ),
    Mutant(
        "K > 1: the curves' KL by equal shares",
        "vae.py",
        "(weight * (share * kl).sum(0)).sum(0)",
        "(weight * kl.mean(0)).sum(0)",
    ),
    Mutant(
        "lost mixture weights, K > 1",
        "vae.py",
        "value = (weight * each).sum(0)",
        "value = each.sum(0)",
    ),
    Mutant(
        "lost mixture weights, K = 1",
        "vae.py",
        "fit = (weight * log_p).sum(1)",
        "fit = log_p.sum(1)",
    ),
    Mutant(
        "ecg targets limited to what a term sees",
        "objectives/ecg.py",
        "return Plan(layout.sees(layout.every_subset()), static=True)",
        "return Plan(layout.sees(layout.every_subset()), static=True, "
        "target=layout.every_subset().T[..., None].to(layout.like.dtype))",
    ),
    Mutant(
        "missing prior expert",
        "fusions/poe.py",
        "+ float(cell.prior_expert)",
        "+ 0.0",
    ),
    Mutant(
        "missing prior expert of code",
        "fusions/code.py",
        "+ float(cell.prior_expert)",
        "+ 0.0",
    ),
    Mutant(
        "a missing element as a sure prior",
        "mixture.py",
        "torch.where(keep, self.var, 1.0)",
        "torch.where(keep, self.var, 1e-3)",
    ),
    Mutant(
        "the KL's sign",
        "vae.py",
        "fit.sum(0) - kl_weight * penalty",
        "fit.sum(0) + kl_weight * penalty",
    ),
    Mutant(
        "KL warm-up ignored",
        "vae.py",
        "fit.sum(0) - kl_weight * penalty",
        "fit.sum(0) - penalty",
    ),
    Mutant(
        "noise scaled by the variance",
        "mixture.py",
        "self.mean + self.var.sqrt() * noise",
        "self.mean + self.var * noise",
    ),
    Mutant(
        "barycenter averages variances",
        "fusions/barycenter.py",
        "(experts.total(experts.var.sqrt()) / count).square()",
        "experts.total(experts.var) / count",
    ),
    Mutant(
        "mopoe counts absent subsets",
        "fusions/mopoe.py",
        "alive.append(whole.squeeze(-1))",
        "alive.append(torch.ones_like(whole.squeeze(-1)))",
    ),
    Mutant(
        "mvtcae's factor",
        "objectives/mvtcae.py",
        "(count - cell.tc) / count",
        "(1 - cell.tc)",
    ),
    Mutant(
        "jmvae misses one expert",
        "objectives/jmvae.py",
        "len(layout.covers) - 1",
        "len(layout.covers) - 2",
    ),
    Mutant(
        "subsampling reconstructs all",
        "objectives/subsampling.py",
        "target=target, ",
        "",
    ),
    Mutant(
        "split's sides both see the same",
        "objectives/split.py",
        "side, ~side]",
        "side, side]",
    ),
    Mutant(
        "split's sides as heavy as the full set",
        "objectives/split.py",
        "(1 - cell.share) / 2",
        "cell.share",
    ),
    Mutant(
        "rmd never the full set",
        "objectives/rmd.py",
        "* len(every)",
        "* (len(every) - 1)",
    ),
    Mutant(
        "a modality's weight ignored",
        "vae.py",
        "params.weight * likelihoods",
        "1.0 * likelihoods",
    ),
    Mutant(
        "laplace's normaliser",
        "likelihoods.py",
        "-1 / params.scale, -math.log(2 * params.scale)",
        "-1 / params.scale, -math.log(params.scale)",
    ),
    Mutant(
        "STL keeps the score term",
        "vae.py",
        'posterior.detached() if self.cell.gradient == "stl" else posterior',
        "posterior",
    ),
    Mutant(
        "DReG without its second share",
        "vae.py",
        "z.register_hook(lambda grad: grad * share.unsqueeze(-1))",
        "pass",
    ),
    Mutant(
        "DReG with equal shares",
        "vae.py",
        "share = log_w.detach().softmax(0)",
        "share = torch.full_like(log_w, 1 / len(log_w))",
    ),
    Mutant(
        "beta ignored",
        "vae.py",
        "plan.beta * self.cell.beta * kl",
        "plan.beta * kl",
    ),
    Mutant(
        "log q of the component instead of the mixture",
        "vae.py",
        'q.log_prob(z) if self.cell.kl == "sampled"',
        'q.component_log_prob(z) if self.cell.kl == "sampled"',
    ),
    Mutant(
        "largest takes the first subset",
        "fusions/largest.py",
        "order = torch.arange(1, len(experts.present) + 1",
        "order = -torch.arange(1, len(experts.present) + 1",
    ),
    Mutant(
        "absent and prior swapped",
        "vae.py",
        'if missing == "prior" else given',
        'if missing == "absent" else given',
    ),
    Mutant(
        "weighted without its entropy",
        "plan.py",
        "value - self.entropy * weight.log()",
        "value",
    ),
    Mutant(
        "the entropy's sign",
        "plan.py",
        "value - self.entropy",
        "value + self.entropy",
    ),
    Mutant(
        "weights that do not sum to 1",
        "objectives/weighted.py",
        ".softmax(0)",
        ".sigmoid()",
    ),
    Mutant(
        "weights that do not learn",
        "objectives/weighted.py",
        'layout.own["logits"].softmax(0)',
        'layout.own["logits"].detach().softmax(0)',
    ),
    Mutant(
        "an objective's parameters frozen",
        "objectives/__init__.py",
        "nn.Parameter(value)",
        "nn.Parameter(value, requires_grad=False)",
    ),
    Mutant(
        "a resumed training forgets its seconds",
        "training.py",
        "began = time.monotonic() - spent",
        "began = time.monotonic()",
    ),
    Mutant(
        "a resumed training forgets Adam's moments",
        "training.py",
        'if key.startswith("adam."):',
        'if key.startswith("adam.0."):',
    ),
    Mutant(
        "every epoch in the same order",
        "training.py",
        "default_rng([seed, epoch])",
        "default_rng([seed, 0])",
    ),
    Mutant(
        "lost mixture weights in log q",
        "vae.py",
        "+ posterior.log_weight)[:, :, 0]",
        ")[:, :, 0]",
    ),
    Mutant(
        "code's prior expert shrunk",
        "fusions/code.py",
        "float(cell.prior_expert)",
        "float(cell.prior_expert) * (1 - cell.rho)",
    ),
    Mutant(
        "mopoe always with its prior expert",
        "fusions/mopoe.py",
        "members & experts.present), cell, draws)",
        "members & experts.present), Cell(), draws)",
    ),
    Mutant(
        "code right for three experts at most",
        "fusions/code.py",
        "(count - 1)",
        "(count - 1).clamp(max=2)",
    ),
    Mutant(
        "DReG keeps the variance's score",
        "mixture.py",
        "self.mean.detach(), self.var.detach(), self.log_weight",
        "self.mean.detach(), self.var, self.log_weight",
    ),
    Mutant(
        "STL with the component's log q instead of the mixture's",
        "vae.py",
        'q.log_prob(z) if self.cell.kl == "sampled"',
        'q.log_prob(z) if self.cell.kl == "sampled" and q is posterior',
    ),
    Mutant(
        "STL forgets the experts of the cross terms",
        "vae.py",
        "(log_q - gaussian_log_prob(z, mean, var))",
        "(log_q - gaussian_log_prob(z, mean.detach(), var.detach()))",
    ),
    Mutant(
        "a random subset decoded as the one before",
        "vae.py",
        "or not plan.static",
        "",
    ),
    Mutant(
        "a sampled point by the variance",
        "vae.py",
        "mean + var.sqrt() * draws.normal(tuple",
        "mean + var * draws.normal(tuple",
    ),
    Mutant(
        "samples of twice the prior",
        "vae.py",
        "self._decode_all(Draws(generator)",
        "self._decode_all(2 * Draws(generator)",
    ),
    Mutant(
        "KL warm-up ignored in training",
        "training.py",
        "min(1.0, (step + 1) / max(1, settings.kl_warmup))",
        "1.0",
    ),
    Mutant(
        "learning rate's schedule ignored",
        "training.py",
        "settings.learning_rate * rate(step, along, settings)",
        "settings.learning_rate",
    ),
    Mutant(
        "clipping ignored",
        "training.py",
        "if settings.clip:",
        "if False:",
    ),
    Mutant(
        "a runaway names the best",
        "training.py",
        "max(harm, key=",
        "min(harm, key=",
    ),
    Mutant(
        "a runaway's step is the window's last",
        "training.py",
        "(loss > limit).int().argmax()",
        "len(loss) - 1",
    ),
    Mutant(
        "a GPU's checkpoint resumed on a CPU",
        "training.py",
        "{settings}{torch.device(device).type}",
        "{settings}",
    ),
    Mutant(
        "checkpoints of something else pile up",
        "training.py",
        "            other.unlink(missing_ok=True)",
        "            pass",
    ),
    Mutant(
        "weights of NaN saved",
        "training.py",
        "            _check_weights(step, model)\n",
        "",
    ),
)


def first_failure(folder: Path) -> str | None:
    """The first test that fails in a copy of the models and their tests."""
    tests = [f"tests/models/test_{file}.py" for file in FILES]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.search(r"^(?:FAILED|ERROR) \S+?\.py::(\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else None


def main(words: list[str]) -> int:
    """Try every mutant whose name has one of the words, or all; how many went unnoticed."""
    unnoticed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in (
            "models",
            "tests/models",
            "tests/__init__.py",
            "tests/conftest.py",
            "pyproject.toml",
        ):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / name).parent.mkdir(exist_ok=True)
            copy(ROOT / name, folder / name)
        for mutant in MUTANTS:
            if words and not any(word in mutant.name for word in words):
                continue
            file = folder / "models" / mutant.file
            text = file.read_text()
            if text.count(mutant.old) != 1:
                killer = None
                print(f"| {mutant.name} | NOT APPLIED: models/{mutant.file} has changed |")
            else:
                file.write_text(text.replace(mutant.old, mutant.new))
                killer = first_failure(folder)
                file.write_text(text)
                print(f"| {mutant.name} | {f'`{killer}`' if killer else 'SURVIVED'} |", flush=True)
            unnoticed += killer is None
    return unnoticed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
