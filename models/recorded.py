"""Work on a GPU that is recorded once as a CUDA graph and then replayed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Recorded"]

WARM = 3  # calls before the recording: libraries choose their kernels, Adam makes its moments


class Recorded:
    """A training step is hundreds of kernels of microseconds: starting each takes longer than it.

    Args:
        work: what is recorded; whatever differs from call to call it reads from tensors that stay
            where they are.
        noise: the generator on the GPU that it draws from.
    """

    def __init__(self, work: Callable[[], Tensor], noise: torch.Generator) -> None:
        self.work, self.noise = work, noise
        self.stream = torch.cuda.Stream(noise.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result = torch.empty(0)
        self.calls = 0

    def __call__(self) -> Tensor:
        """Do the work; what it returns stays valid after the next call."""
        self.calls += 1
        if self.calls <= WARM:
            now = torch.cuda.current_stream(self.noise.device)
            self.stream.wait_stream(now)
            with torch.cuda.stream(self.stream):
                self.result = self.work()
            now.wait_stream(self.stream)
            return self.result
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            self.graph.register_generator_state(self.noise)
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.result = self.work()
        self.graph.replay()
        return self.result.clone()
