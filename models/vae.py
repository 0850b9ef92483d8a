"""The multimodal VAE: experts, a fusion, decoders, its bound, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models import consistency, entries, files, fusions, inputs, likelihoods, networks, objectives
from models.bound import Bound, elbo, evidence, importance_weighted
from models.consistency import Calibration, Consistency, Generated
from models.mixture import Draws, Experts, Mixture
from models.params import RATES, Cell, VAEParams
from models.plan import Layout, Plan, constant, subsets

__all__ = ["MultimodalVAE"]


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
            raise ValueError(f"shapes: want {sorted(params.modalities)}; these differ: {missing}")
        self.params, self.cell = params, cell
        self.shapes = {name: tuple(shapes[name]) for name in params.modalities}
        self.fuse, self.fusion_traits = fusions.load(cell.fusion), fusions.traits(cell.fusion)
        self.make_plan = objectives.load(cell.objective)
        self.objective_traits = objectives.traits(cell.objective)
        self.fusion_options = cell.options("fusion")
        self.objective_options = cell.options("objective")
        self.own = entries.own("objective", cell.objective, len(self.shapes))
        self.experts = nn.ModuleList(self._expert(names) for names in self.expert_inputs())
        self.fusion_own = entries.own("fusion", cell.fusion, len(self.experts), params.latent)
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
        self.calibration: Calibration | None = None
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
    def _weight(self) -> Tensor:
        return next(self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are: float32, unless the model was moved (`half()`, `double()`)."""
        return self._weight.dtype

    @property
    def _wide(self) -> torch.dtype:
        """What all but the networks computes in: the weights' dtype, but at least float32."""
        return torch.promote_types(self.dtype, torch.float32)

    def _autocast(self) -> torch.autocast:
        wanted = self.params.training.precision == "bfloat16" and self.dtype == torch.float32
        fast = wanted and networks.fast_bfloat16(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def _layout(self, batch: int, like: Tensor) -> Layout:
        covers = tuple(tuple(n in given for n in self.shapes) for given in self.expert_inputs())
        return Layout(
            constant(covers, like.device),
            batch,
            self.params.latent,
            like,
            dict(self.own.items()),
            self.cell.beta,
        )

    def _given(self, mean: Tensor, var: Tensor, present: Tensor) -> Experts:
        """Experts [E, B, L] as the fusion takes them; a term sees those `present` [E, T, B|1]."""
        own = dict(self.fusion_own.items())
        return Experts(mean[:, None], var[:, None], present[..., None], own)

    def encode(self, x: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and variance [E, B, L] of every expert whose inputs are given, else the prior's."""
        batch = len(next(iter(x.values())))
        x = {n: inputs.encodable(v, self._classes(n), self.dtype) for n, v in x.items()}
        means, variances = [], []
        for expert, given in zip(self.experts, self.expert_inputs(), strict=True):
            if all(name in x for name in given):
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

    def log_likelihoods(self, x: Mapping[str, Tensor], z: Tensor) -> Tensor:
        """Weighted log p(x_m|z) of z [S, B, L]: [M, S, B]."""
        return torch.stack([self._log_likelihood(name, x[name], z) for name in self.shapes])

    def _log_likelihood(self, name: str, x: Tensor, z: Tensor) -> Tensor:
        """Weighted log p(x|z) of one modality: [S, B]."""
        params = self.params.modalities[name]
        output = self.decode(name, z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return params.weight * likelihoods.log_prob(params, x, output)

    def bound(
        self, x: Mapping[str, Tensor], draws: Draws, kl_weight: float | Tensor = 1.0
    ) -> Bound:
        """The cell's bound on a batch.

        Args:
            x: every modality, as `prepared` returns them.
            draws: the noise.
            kl_weight: extra factor on the KL terms (warm-up).
        """
        mean, var = self.encode(x)
        layout = self._layout(mean.shape[1], mean)
        plan = self.make_plan(layout, self.objective_options, draws)
        experts = self._given(mean, var, plan.present)
        if plan.keep is not None:
            experts = experts.reverted(plan.keep)
        posterior = self.fuse(experts, self.fusion_options, draws)
        z = posterior.sample(self.cell.samples, draws)  # [K, C, T, B, L]
        if plan.heads is None:
            log_p = self._decode_live(x, z, posterior, plan)  # [M, K, C, T, B]
        else:
            log_p = self._decode_heads(x, z, plan.heads)
        if plan.target is not None:
            log_p = log_p * plan.target[:, None, None]
        if self.cell.samples == 1:
            single = (mean, var)
            parts = elbo(self.cell, plan, posterior, single, z[0], log_p[:, 0], kl_weight)
        else:
            parts = importance_weighted(self.cell, posterior, z, log_p)
        value, fit, kl = parts
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

    def _decode_heads(self, x: Mapping[str, Tensor], z: Tensor, heads: Tensor) -> Tensor:
        """log p(x_m|z) [M, K, C, T, B] of the terms that `heads` [M, D, B|1] names, else 0."""
        rows = []
        for name, terms in zip(self.shapes, heads, strict=True):
            index = terms.expand(*z.shape[:2], -1, z.shape[3])  # [K, C, D, B]
            some = z.gather(2, index[..., None].expand(*index.shape, z.shape[4]))
            log_p = self._log_likelihood(name, x[name], some.flatten(0, 2)).view(index.shape)
            rows.append(log_p.new_zeros(z.shape[:4]).scatter(2, index, log_p))
        return torch.stack(rows)

    def _live_rows(self, posterior: Mixture, plan: Plan) -> Tensor | None:
        """Indices (component, term) of components present, None for all; one look a device."""
        weight = posterior.log_weight
        if len(weight) == 1 or not plan.static:
            return None
        if self._live is None or self._live.device != weight.device:
            self._live = weight.isfinite().all(-1).flatten().nonzero().flatten()
        return self._live

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
        given = torch.tensor([[name in x for name in self.shapes]], device=self.device)
        given = torch.ones_like(given) if missing == "prior" else given
        return self.fused(*self.encode(x), given, draws or Draws())

    def fused(self, mean: Tensor, var: Tensor, given: Tensor, draws: Draws) -> Mixture:
        """The joint posteriors of T sets of modalities, from what `encode` returned.

        Args:
            mean, var: [E, B, L].
            given: bool [T, M], or [T, M, B] where the items differ; no set is empty.
            draws: as in `posterior`.
        """
        present = self._layout(mean.shape[1], mean).sees(given)
        return self.fuse(self._given(mean, var, present), self.fusion_options, draws)

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
        reject: str = "none",
        rate: float = RATES[0],
    ) -> Generated:
        """Every modality, decoded from one point of the posterior given `available`.

        Args:
            available: as in `posterior`.
            point: `mean` of the posterior (of one component of a mixture), or a `sample`.
            component: which component of a mixture; by default drawn per item.
            missing: as in `posterior`.
            uniforms, normals: [B, L] draws keyed by the caller, so that batching changes nothing.
            generator: draws instead of `uniforms` and `normals`.
            reject: `auto`: each item leaves out the sensors that `consistency` flags, worst first,
                at most all but two; where `component` is one of theirs, it draws another.
            rate: of false alarms, one of those that the model was calibrated at.

        Returns:
            modality -> float32 [B, C, H, W] in [0, 1] (float64 from a model of float64). Its
            `rejected` is sensor -> bool [B] of those available: which items left it out.
        """
        if point not in ("mean", "sample"):
            raise ValueError(f"point: {point!r} is neither 'mean' nor 'sample'")
        draws = Draws(generator, uniforms, normals)
        if reject not in ("none", "auto") or (reject == "auto" and missing == "prior"):
            raise ValueError(f"reject: {reject!r} is not 'none', or 'auto' with missing 'absent'")
        rejected: dict[str, Tensor] = {}
        if reject == "auto":
            posterior, rejected = consistency.rejecting(self, available, rate, draws)
        else:
            posterior = self.posterior(available, missing, draws)
        mean, var = posterior.component(component, draws, or_drawn=reject == "auto")
        z = mean if point == "mean" else mean + var.sqrt() * draws.normal(tuple(mean.shape), mean)
        return Generated(self._decode_all(z), rejected)

    @torch.no_grad()
    def consistency(
        self, available: Mapping[str, Tensor], draws: Draws | None = None
    ) -> Consistency:
        """How well each sensor agrees with the others, item by item.

        Args:
            available: as in `posterior`; two sensors or more.
            draws: needed by random fusions alone.

        Raises:
            ValueError: the fusion has no expert of single sensors; as in `posterior`.
        """
        return consistency.examined(self, available, draws or Draws())

    @torch.no_grad()
    def calibrate(self, clean: Mapping[str, Tensor], seed: int = 0) -> None:
        """Take thresholds from clean items, not trained on, into this model and its file.

        Args:
            clean: every modality, as in `posterior`.
            seed: of random fusions' draws.
        """
        self.calibration = consistency.calibrated(self, clean, seed)

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
            decoded[name] = mean.clamp(0, 1) if len(self.shapes[name]) == 3 else mean
        return decoded

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
        return evidence(self, self._inputs(x), samples, generator or self._anew())

    def _inputs(self, available: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return inputs.checked(available, self.params.modalities, self.shapes, self._weight)

    def prepared(self, name: str, x: Tensor) -> Tensor:
        """A stored batch as the networks want it: see `inputs.prepared`."""
        return inputs.prepared(name, x, self.params.modalities[name], self._weight)

    # -- files ------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Weights, config and calibration into one safetensors file, atomically."""
        files.save(self, path)

    @classmethod
    def load(cls, path: Path, device: str | torch.device | None = None) -> MultimodalVAE:
        """The model that `save` wrote, in eval mode.

        Raises:
            OSError, ValueError: names the file, which cannot be read, is damaged or no model.
        """
        return files.load(cls, path).to(device or "cpu").eval()
