"""The few aliases that every room shares.

A *batch* is one tensor (only data) or a tuple whose first entry is the data and whose other entries are conditions:
``(x0,)``, ``(x0, labels)``, ``(ids, targets)``. A network is called with the data it must explain, then the conditions.
"""

from collections.abc import Callable

from torch import Generator, Tensor, nn

Batch = Tensor | tuple[Tensor, ...]
LossFn = Callable[[nn.Module, Batch, Generator], Tensor]  # -> a scalar
Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> estimate of x_0
