"""Mutants of the models."""

from __future__ import annotations

from tests.mutants import Mutant, entries

FILES = (
    "objectives",
    "links",
    "fusions",
    "gpoe_hellinger",
    "likelihoods",
    "bound",
    "vae",
    "training",
)
TESTS = {
    "*": tuple(f"tests/models/test_{file}.py" for file in FILES),
}

MUTANTS = (
    *entries.MUTANTS,
    Mutant(
        "lost -log K",
        "bound.py",
        "each = log_w.logsumexp(0) - math.log(len(log_w))",
        "each = log_w.logsumexp(0)",
    ),
    Mutant(
        "DReG's lost -log K",
        "bound.py",
        "each + log_w.detach().logsumexp(0) - math.log(len(log_w))",
        "each + log_w.detach().logsumexp(0)",
    ),
    Mutant(
        "K > 1: the curves' fit by equal shares",
        "bound.py",
        "fit = (weight * (share * log_p).sum(1)).sum(1)",
        "fit = (weight * log_p.mean(1)).sum(1)",
    ),
    Mutant(
        "K > 1: the curves' KL by equal shares",
        "bound.py",
        "(weight * (share * kl).sum(0)).sum(0)",
        "(weight * kl.mean(0)).sum(0)",
    ),
    Mutant(
        "lost mixture weights, K > 1",
        "bound.py",
        "value = (weight * each).sum(0)",
        "value = each.sum(0)",
    ),
    Mutant(
        "lost mixture weights, K = 1",
        "bound.py",
        "fit = (weight * log_p).sum(1)",
        "fit = log_p.sum(1)",
    ),
    Mutant(
        "a missing element as a sure prior",
        "mixture.py",
        "torch.where(keep, self.var, 1.0)",
        "torch.where(keep, self.var, 1e-3)",
    ),
    Mutant(
        "the KL's sign",
        "bound.py",
        "fit.sum(0) - kl_weight * penalty",
        "fit.sum(0) + kl_weight * penalty",
    ),
    Mutant(
        "KL warm-up ignored",
        "bound.py",
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
        "a link counted in every term",
        "bound.py",
        "F.pad(one, (0, 0, term, len(kl) - 1 - term))",
        "one",
    ),
    Mutant(
        "a KL between mixtures as the mean over pairs",
        "mixture.py",
        "return -(self.weight * near.logsumexp(0)).sum(0)",
        "return (self.weight * (other.weight[:, None] * torch.stack(each)).sum(0)).sum(0)",
    ),
    Mutant(
        "a KL between mixtures without the other's weights",
        "mixture.py",
        "torch.stack([w - kl for w, kl in",
        "torch.stack([0 * w - kl for w, kl in",
    ),
    Mutant(
        "a fusion's parameters stay at their initial values",
        "vae.py",
        "dict(self.fusion_own.items())",
        "{key: value.detach() for key, value in self.fusion_own.items()}",
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
        "bound.py",
        'posterior.detached() if cell.gradient == "stl" else posterior',
        "posterior",
    ),
    Mutant(
        "DReG without its second share",
        "bound.py",
        "z.register_hook(lambda grad: grad * share.unsqueeze(-1))",
        "pass",
    ),
    Mutant(
        "DReG with equal shares",
        "bound.py",
        "share = log_w.detach().softmax(0)",
        "share = torch.full_like(log_w, 1 / len(log_w))",
    ),
    Mutant(
        "beta ignored",
        "bound.py",
        "plan.beta * cell.beta * kl",
        "plan.beta * kl",
    ),
    Mutant(
        "log q of the component instead of the mixture",
        "bound.py",
        'q.log_prob(z) if cell.kl == "sampled"',
        'q.component_log_prob(z) if cell.kl == "sampled"',
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
        "an entry's parameters frozen",
        "entries.py",
        "nn.Parameter(value)",
        "nn.Parameter(value, requires_grad=False)",
    ),
    Mutant(
        "a resumed training forgets its seconds",
        "training.py",
        "began = time.monotonic() - state.seconds",
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
        "DReG keeps the variance's score",
        "mixture.py",
        "self.mean.detach(), self.var.detach(), self.log_weight",
        "self.mean.detach(), self.var, self.log_weight",
    ),
    Mutant(
        "STL with the component's log q instead of the mixture's",
        "bound.py",
        'q.log_prob(z) if cell.kl == "sampled"',
        'q.log_prob(z) if cell.kl == "sampled" and q is posterior',
    ),
    Mutant(
        "STL forgets the experts of the cross terms",
        "bound.py",
        "(log_q - other.log_prob(z))",
        "(log_q - other.detached().log_prob(z))",
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
        "curves.py",
        "max(harm, key=",
        "min(harm, key=",
    ),
    Mutant(
        "a runaway's step is the window's last",
        "curves.py",
        "(loss > limit).int().argmax()",
        "len(loss) - 1",
    ),
    Mutant(
        "a GPU's checkpoint resumed on a CPU",
        "training.py",
        '"device": torch.device(device).type,',
        "",
    ),
    Mutant(
        "weights of NaN saved",
        "training.py",
        "            check_weights(step, model)\n",
        "",
    ),
    Mutant(
        "a cosine that never reaches 0",
        "training.py",
        "return 0.5 * (1 + math.cos(math.pi * along))",
        "return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * along))",
    ),
    Mutant(
        "the schedule lags by its warm-up",
        "training.py",
        "along = (step - settings.warmup) / max(1, settings.steps - settings.warmup)",
        "along = step / settings.steps",
    ),
    Mutant(
        "the validation loss is of training data",
        "training.py",
        "_row(done, table.mean(0), model, held_out, seed)",
        "_row(done, table.mean(0), model, seen, seed)",
    ),
    Mutant(
        "the validation loss is of one batch",
        "curves.py",
        "values[:256]",
        "values[:64]",
    ),
)
