"""The multimodal VAE: experts, a fusion, decoders, its bound, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base.files import write_bytes
from base.weights import read, sealed
from models import fusions, likelihoods, networks, objectives
from models.mixture import Draws, Experts, Mixture, gaussian_log_prob
from models.params import Cell, VAEParams
from models.plan import Layout, Plan, constant, subsets

__all__ = ["Bound", "MultimodalVAE"]

CONFIG = "config"  # its key in a model's file


@dataclass(frozen=True)
class Bound:
    """The bound of one batch and what it is made of.

    Attributes:
        value: [T, B] nats: what training maximises, summed over the terms.
        reconstruction: [M, T] mean over the batch of the expected weighted log p(x_m|z).
        kl: [T] mean KL to the prior at K = 1 (sampled log q - log p for K > 1).
        encoded: [E] sum of each expert's means and variances: tells which encoder went wrong.
    """

    value: Tensor
    reconstruction: Tensor
    kl: Tensor
    encoded: Tensor


class MultimodalVAE(nn.Module):
    """p(x_1, ..., x_M, z) = N(z; 0, I) prod_m p(x_m|z), with a fused approximate posterior.

    Args:
        params: modalities, latent size, networks.
        cell: fusion, objective and their options.
        shapes: modality -> shape of one item: (H, W, C), (T, D) or (D,).
    """

    def __init__(
        self, params: VAEParams, cell: Cell, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__()
        missing = sorted(set(params.modalities) ^ set(shapes))
        if missing:
            raise ValueError(
                f"shapes must name the modalities {sorted(params.modalities)}; "
                f"these differ: {missing}"
            )
        self.params, self.cell = params, cell
        self.shapes = {name: tuple(shapes[name]) for name in params.modalities}
        self.fuse, self.fusion_traits = fusions.load(cell.fusion), fusions.traits(cell.fusion)
        self.make_plan = objectives.load(cell.objective)
        self.objective_traits = objectives.traits(cell.objective)
        self.fusion_options = cell.options("fusion")
        self.objective_options = cell.options("objective")
        self.own = objectives.own(cell.objective, len(self.shapes))
        self.experts = nn.ModuleList(self._expert(names) for names in self.expert_inputs())
        self.decoders = nn.ModuleDict(
            {
                name: networks.decoder(
                    shape,
                    params.latent,
                    params.network,
                    logits=params.modalities[name].likelihood == "bernoulli",
                )
                for name, shape in self.shapes.items()
            }
        )
        self._live: Tensor | None = None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def expert_inputs(self) -> list[list[str]]:
        """The modalities each expert reads: one each, or every subset if the fusion says so."""
        names = list(self.shapes)
        rows = subsets(len(names))
        rows = rows if self.fusion_traits.subset_experts else rows[: len(names)]
        return [[n for n, given in zip(names, row, strict=True) if given] for row in rows]

    def _expert(self, names: list[str]) -> networks.Expert:
        trunks = {name: networks.trunk(self.shapes[name], self.params.network) for name in names}
        return networks.Expert(trunks, self.params.latent)

    # -- the parts of a bound ---------------------------------------------------------------

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.shapes)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are: float32, unless the model was moved (`half()`, `double()`)."""
        return next(self.parameters()).dtype

    @property
    def _wide(self) -> torch.dtype:
        """What all but the networks computes in: the weights' dtype, but at least float32."""
        return torch.promote_types(self.dtype, torch.float32)

    def _autocast(self) -> torch.autocast:
        wanted = self.params.training.precision == "bfloat16" and self.dtype == torch.float32
        fast = wanted and networks.fast_bfloat16(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def _layout(self, batch: int, like: Tensor) -> Layout:
        inputs = self.expert_inputs()
        covers = tuple(tuple(name in given for name in self.shapes) for given in inputs)
        return Layout(
            constant(covers, like.device),
            batch,
            self.params.latent,
            like,
            dict(self.own.items()),
            self.cell.beta,
        )

    def encode(self, x: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and variance [E, B, L] of every expert whose inputs are given, else the prior's."""
        batch = len(next(iter(x.values())))
        x = {name: self._encodable(name, values) for name, values in x.items()}
        means, variances = [], []
        for expert, inputs in zip(self.experts, self.expert_inputs(), strict=True):
            if all(name in x for name in inputs):
                with self._autocast():
                    mean, var = expert(x)
            else:
                mean = torch.zeros(batch, self.params.latent, device=self.device, dtype=self._wide)
                var = torch.ones_like(mean)
            means.append(mean)
            variances.append(var)
        return torch.stack(means), torch.stack(variances)

    def decode(self, name: str, z: Tensor) -> Tensor:
        """Decoder output [N, ...] of modality `name` for z [N, L]."""
        with self._autocast():
            output: Tensor = self.decoders[name](z.to(self.dtype))
        return output.movedim(1, -1) if self._classes(name) and output.ndim == 4 else output

    def _classes(self, name: str) -> int:
        return self.params.modalities[name].classes

    def _encodable(self, name: str, x: Tensor) -> Tensor:
        """What an encoder reads: categories become one-hot vectors, channels come first."""
        if not self._classes(name):
            return x.to(self.dtype)
        hot = F.one_hot(x, self._classes(name)).to(self.dtype)
        return hot.movedim(-1, 1) if hot.ndim == 4 else hot

    def log_likelihoods(self, x: Mapping[str, Tensor], z: Tensor) -> Tensor:
        """Weighted log p(x_m|z) of z [S, B, L]: [M, S, B]."""
        rows = []
        for name, params in self.params.modalities.items():
            output = self.decode(name, z.flatten(0, 1)).unflatten(0, z.shape[:2])
            rows.append(params.weight * likelihoods.log_prob(params, x[name], output))
        return torch.stack(rows)

    def bound(self, x: Mapping[str, Tensor], draws: Draws, kl_weight: float = 1.0) -> Bound:
        """The cell's bound on a batch.

        Args:
            x: every modality, as `prepared` returns them.
            draws: the noise.
            kl_weight: extra factor on the KL terms (warm-up).
        """
        mean, var = self.encode(x)
        layout = self._layout(mean.shape[1], mean)
        plan = self.make_plan(layout, self.objective_options, draws)
        experts = Experts(mean[:, None], var[:, None], plan.present[..., None])
        if plan.keep is not None:
            experts = experts.reverted(plan.keep)
        posterior = self.fuse(experts, self.fusion_options, draws)
        z = posterior.sample(self.cell.samples, draws)  # [K, C, T, B, L]
        log_p = self._decode_live(x, z, posterior, plan)  # [M, K, C, T, B]
        if plan.target is not None:
            log_p = log_p * plan.target[:, None, None]
        if self.cell.samples == 1:
            value, fit, kl = self._elbo(log_p[:, 0], z[0], posterior, plan, (mean, var), kl_weight)
        else:
            value, fit, kl = self._iwae(log_p, z, posterior)
        encoded = (mean + var).detach().sum((1, 2))
        return Bound(plan.weighted(value), fit.mean(-1), kl.mean(-1), encoded)

    def _decode_live(
        self, x: Mapping[str, Tensor], z: Tensor, posterior: Mixture, plan: Plan
    ) -> Tensor:
        """log p(x_m|z) [M, K, C, T, B]; components of weight 0 are not decoded."""
        count = z.shape[1] * z.shape[2]
        live = self._live_rows(posterior, plan)
        if live is None or len(live) == count:
            return self.log_likelihoods(x, z.flatten(0, 2)).unflatten(1, z.shape[:3])
        rows = z.flatten(1, 2)[:, live]
        some = self.log_likelihoods(x, rows.flatten(0, 1)).unflatten(1, rows.shape[:2])
        log_p = some.new_zeros(len(some), z.shape[0], count, z.shape[3])
        log_p[:, :, live] = some
        return log_p.unflatten(2, z.shape[1:3])

    def _live_rows(self, posterior: Mixture, plan: Plan) -> Tensor | None:
        """Indices (component, term) of components present, None for all; one look a device."""
        weight = posterior.log_weight
        if len(weight) == 1 or not plan.static:
            return None
        if self._live is None or self._live.device != weight.device:
            self._live = weight.isfinite().all(-1).flatten().nonzero().flatten()
        return self._live

    def _elbo(
        self,
        log_p: Tensor,
        z: Tensor,
        posterior: Mixture,
        plan: Plan,
        experts: tuple[Tensor, Tensor],
        kl_weight: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """K = 1: sum_c w_c sum_m log p(x_m|z_c) - KL terms; the KL analytic where there is one.

        Returns the value [T, B], the fit [M, T, B] and the KL to the prior [T, B].
        """
        weight = posterior.weight
        fit = (weight * log_p).sum(1)  # [M, T, B]
        zero = torch.zeros_like(z[0, 0])
        kl = self._kl(z, posterior, zero, zero + 1)
        penalty = plan.beta * self.cell.beta * kl
        for expert, factor in plan.cross.items():
            single = (experts[0][expert], experts[1][expert])
            penalty = penalty + factor * self._kl(z, posterior, *single)
        return fit.sum(0) - kl_weight * penalty, fit, kl

    def _kl(self, z: Tensor, posterior: Mixture, mean: Tensor, var: Tensor) -> Tensor:
        """KL(q || N(mean, var)) [T, B]: analytic, or log q - log p at the drawn points."""
        one = len(posterior.mean) == 1
        if self.cell.gradient == "standard" and (one or self.cell.kl == "bound"):
            return posterior.kl_bound(mean, var)
        q = posterior.detached() if self.cell.gradient == "stl" else posterior
        log_q = q.log_prob(z) if self.cell.kl == "sampled" else q.component_log_prob(z)
        return (posterior.weight * (log_q - gaussian_log_prob(z, mean, var))).sum(0)

    def _iwae(self, log_p: Tensor, z: Tensor, posterior: Mixture) -> tuple[Tensor, Tensor, Tensor]:
        """K > 1: sum_c w_c log 1/K sum_k p(x, z_ck) / q(z_ck), the strata outside the log.

        Returns the value [T, B], the fit [M, T, B] and log q - log p(z) [T, B].
        """
        score = self.cell.gradient == "standard"
        q = posterior if score else posterior.detached()
        zero = torch.zeros_like(z[0, 0, 0])
        kl = q.log_prob(z) - gaussian_log_prob(z, zero, zero + 1)
        log_w = log_p.sum(0) - kl  # [K, C, T, B]
        share = log_w.detach().softmax(0)
        if self.cell.gradient == "dreg":
            if z.requires_grad:
                z.register_hook(lambda grad: grad * share.unsqueeze(-1))
            each = (share * (log_w - log_w.detach())).sum(0)
            each = each + log_w.detach().logsumexp(0) - math.log(len(log_w))
        else:
            each = log_w.logsumexp(0) - math.log(len(log_w))
        weight = posterior.weight
        value = (weight * each).sum(0)
        fit = (weight * (share * log_p).sum(1)).sum(1)
        return value, fit, (weight * (share * kl).sum(0)).sum(0)

    # -- what a trained model answers -------------------------------------------------------

    def posterior(
        self, available: Mapping[str, Tensor], missing: str = "absent", draws: Draws | None = None
    ) -> Mixture:
        """The joint posterior given any non-empty subset of the modalities.

        Args:
            available: modality -> [B, C, H, W] float in [0, 1], or uint8 [B, H, W, C].
            missing: `absent`: a missing modality has no expert; `prior`: its expert is the prior.
            draws: needed by random fusions alone.

        Returns:
            A mixture with T = 1: mean, var [C, 1, B, L].

        Raises:
            TypeError: names the modality that is not a tensor.
            ValueError: names the modality that is unknown or has a wrong shape, dtype or range.
        """
        if missing not in ("absent", "prior"):
            raise ValueError(f"missing: {missing!r} is neither 'absent' nor 'prior'")
        if missing == "prior" and self.fusion_traits.subset_experts:
            raise ValueError(
                f"missing: 'prior' with fusion {self.cell.fusion!r}, which has an encoder for what "
                "is there"
            )
        x = self._inputs(available)
        mean, var = self.encode(x)
        layout = self._layout(mean.shape[1], mean)
        given = torch.tensor([[name in x for name in self.shapes]], device=mean.device)
        present = layout.sees(torch.ones_like(given) if missing == "prior" else given)
        experts = Experts(mean[:, None], var[:, None], present[..., None])
        return self.fuse(experts, self.fusion_options, draws or Draws())

    @torch.no_grad()
    def generate(
        self,
        available: Mapping[str, Tensor],
        *,
        point: str = "mean",
        component: int | None = None,
        missing: str = "absent",
        uniforms: Tensor | None = None,
        normals: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Every modality, decoded from one point of the posterior given `available`.

        Args:
            available: as in `posterior`.
            point: `mean` of the posterior (of one component of a mixture), or a `sample`.
            component: which component of a mixture; by default drawn per item.
            missing: as in `posterior`.
            uniforms, normals: [B, L] draws keyed by the caller, so that batching changes nothing.
            generator: draws instead of `uniforms` and `normals`.

        Returns:
            modality -> float32 [B, C, H, W] in [0, 1] (float64 from a model of float64).
        """
        if point not in ("mean", "sample"):
            raise ValueError(f"point: {point!r} is neither 'mean' nor 'sample'")
        draws = Draws(generator, uniforms, normals)
        posterior = self.posterior(available, missing, draws)
        mean, var = self._component(posterior, component, draws)
        z = mean if point == "mean" else mean + var.sqrt() * draws.normal(tuple(mean.shape), mean)
        return self._decode_all(z)

    def _component(
        self, posterior: Mixture, component: int | None, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance [B, L] of one component, given or drawn per item by its weight."""
        mean, var = posterior.mean[:, 0], posterior.var[:, 0]
        weight = posterior.weight[:, 0]  # [C, B|1]
        if component is not None:
            if not 0 <= component < len(mean):
                raise ValueError(f"component: {component} is not in 0 .. {len(mean) - 1}")
            if not weight[component].all():
                raise ValueError(f"component: {component} needs modalities that are not available")
            return mean[component], var[component]
        alive = weight.any(1).nonzero().flatten()
        if len(alive) == 1:
            return mean[alive[0]], var[alive[0]]
        drawn = draws.uniform(tuple(mean.shape[1:]), mean)[:, 0]
        # Rounding must not reach an absent component.
        index = (drawn >= weight.cumsum(0)).sum(0).clamp(max=int(alive[-1]))
        items = torch.arange(len(index), device=index.device)
        return mean[index, items], var[index, items]

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Every modality, decoded from `count` draws of the prior; by default anew each time."""
        generator = generator or self._anew()
        like = torch.empty(0, device=self.device, dtype=self._wide)
        return self._decode_all(Draws(generator).normal((count, self.params.latent), like))

    def _anew(self) -> torch.Generator:
        """A generator with a seed from the operating system."""
        generator = torch.Generator(self.device)
        generator.seed()
        return generator

    def _decode_all(self, z: Tensor) -> dict[str, Tensor]:
        decoded = {}
        for name, params in self.params.modalities.items():
            mean = likelihoods.expected(params, self.decode(name, z))
            decoded[name] = mean.clamp(0, 1) if self._is_image(name) else mean
        return decoded

    def _is_image(self, name: str) -> bool:
        return len(self.shapes[name]) == 3

    @torch.no_grad()
    def log_likelihood(
        self, x: Mapping[str, Tensor], samples: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Importance-sampled log of the integral of p(z) prod_m p(x_m|z)^weight_m: [B] nats.

        With likelihood weights of 1 that is the evidence log p(x); with others that of a tempered
        likelihood, which compares models of the same weights alone. It is too low on average, by
        less the more samples. A mixture's draws are stratified: each component's K points are
        weighted by q of the whole mixture, inside one log.

        Args:
            x: as in `posterior`, but every modality.
            samples: K, 1 or more draws of (each component of) the full posterior.
            generator: by default the draws are new each time.

        Raises:
            ValueError: names what is missing or wrong.
        """
        if samples < 1:
            raise ValueError(f"samples: {samples}, expected 1 or more")
        absent = sorted(set(self.shapes) - set(x))
        if absent:
            raise ValueError(f"x: {absent} is missing; log p(x) needs every modality")
        x, draws = self._inputs(x), Draws(generator or self._anew())
        posterior = self.posterior(x, draws=draws)
        together = max(1, 512 // (len(posterior.mean) * posterior.mean.shape[2]))
        weights = [
            self._log_weights(x, posterior, min(together, samples - done), draws)
            for done in range(0, samples, together)
        ]
        return torch.cat(weights).logsumexp(0) - math.log(samples)

    def _log_weights(
        self, x: Mapping[str, Tensor], posterior: Mixture, samples: int, draws: Draws
    ) -> Tensor:
        """log sum_c w_c p(x, z_c) / q(z_c) for K draws of each component: [K, B]."""
        z = posterior.sample(samples, draws)  # [K, C, 1, B, L]
        log_p = self.log_likelihoods(x, z.flatten(0, 2)).sum(0).unflatten(0, z.shape[:2])
        prior = gaussian_log_prob(z, torch.zeros_like(z), torch.ones_like(z))
        log_w = log_p + (prior - posterior.log_prob(z) + posterior.log_weight)[:, :, 0]
        return log_w.logsumexp(1)

    def _inputs(self, available: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The checked modalities, prepared, on the model's device and in its order."""
        if not available:
            raise ValueError("available: no modality is given; at least one is needed")
        unknown = sorted(set(available) - set(self.shapes))
        if unknown:
            raise ValueError(f"available: {unknown} is not among {list(self.shapes)}")
        x = {
            name: self._checked(name, available[name]) for name in self.shapes if name in available
        }
        sizes = {name: len(values) for name, values in x.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"available: the modalities differ in batch size: {sizes}")
        return x

    def _checked(self, name: str, x: Tensor) -> Tensor:
        """`prepared`, or an error that names the modality and what is wrong with it."""
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: {type(x).__name__}, expected a torch.Tensor")
        x, shape = self.prepared(name, x), self.shapes[name]
        classes = self._classes(name)
        if classes:
            shape = shape[:-1]
        elif self._is_image(name):
            shape = (shape[2], *shape[:2])
        if not x.ndim or tuple(x.shape[1:]) != shape or not len(x):
            raise ValueError(f"{name}: shape {list(x.shape)}, expected [B, {str(shape)[1:-1]}]")
        low, high = x.min().item(), x.max().item()
        likelihood = self.params.modalities[name].likelihood
        bounded = self._is_image(name) or likelihood == "bernoulli" or classes
        top, largest = (classes - 1 if classes else 1), torch.finfo(self.dtype).max
        least, most = (0.0, top) if bounded else (-largest, largest)
        if not least <= low <= high <= most:  # nor NaN
            limits = f"[0, {top}]" if bounded else f"finite numbers of {self.dtype}"
            raise ValueError(f"{name}: values in [{low:g}, {high:g}], expected {limits}")
        return x

    def prepared(self, name: str, x: Tensor) -> Tensor:
        """A stored batch as the networks want it, on the model's device; no value is checked.

        uint8 [B, H, W, C] -> float [B, C, H, W] in [0, 1] (channels last in memory); other uint8
        -> float in [0, 1]; categories -> int64; floating-point tensors -> float. That is float32,
        or float64 where the weights are.
        """
        x = x.to(self.device)
        if self._classes(name):
            if x.is_floating_point() or x.is_complex():
                raise ValueError(f"{name}: dtype {x.dtype}, expected integers (categories)")
            return x.long()
        if x.dtype == torch.uint8:
            return (x.movedim(-1, 1) if x.ndim == 4 else x).to(self._wide) / 255
        if not x.is_floating_point():
            raise ValueError(f"{name}: dtype {x.dtype}, expected uint8 or floating point")
        return x.to(self._wide)

    # -- files ------------------------------------------------------------------------------

    def config(self) -> dict[str, object]:
        """What, with the weights, rebuilds this model."""
        return {
            "params": self.params.model_dump(mode="json"),
            "cell": self.cell.model_dump(mode="json"),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
        }

    def save(self, path: Path) -> None:
        """Weights and config into one safetensors file, atomically."""
        weights = {key: value.contiguous().cpu() for key, value in self.state_dict().items()}
        save = partial(safetensors.torch.save, weights)
        write_bytes(Path(path), sealed(save, CONFIG, self.config()))

    @classmethod
    def load(cls, path: Path, device: str | torch.device | None = None) -> MultimodalVAE:
        """The model that `save` wrote, in eval mode.

        Raises:
            OSError, ValueError: names the file, which cannot be read, is damaged or no model.
        """
        config, content = read(path, CONFIG)
        weights = safetensors.torch.load(content)
        shapes = {name: tuple(shape) for name, shape in config["shapes"].items()}
        config["params"]["network"].setdefault("logit_scale", 1.0)  # older files do not name it
        model = cls(VAEParams.model_validate(config["params"]), Cell.saved(config["cell"]), shapes)
        model.load_state_dict(weights)
        return model.to(device or "cpu").eval()
