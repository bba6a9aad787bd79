"""Which positions of which tensors stand or fall together, found by following labels through one forward pass.

Every position of every parameter dimension that may shrink gets a label. The network runs once, and each operator that
torch dispatches ties labels: an addition those of its operands, a convolution those of its input channels and of its
weight's. Label 0 stands for positions that must stay; what is tied to it stays as well. An operator that is not known
ties all that it reads to 0, so that nothing is sliced which was not understood.

Code that computes shapes from its own attributes (`reshape(B, N, self.num_heads, -1)`) has to see other numbers once a
network is sliced. Such attributes are replaced by marked integers for the pass, which tell where they are used.

Norms over channels skip what is dropped, as the sliced network's do; a mean over channels outside of one stays whole.

ties: labels; marks: integers; tracer: what ties labels in a pass, by rules for operators: layer_rules, shape_rules
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from mvp_edge.models import layer_rules, shape_rules
from mvp_edge.models.marks import mark_integers
from mvp_edge.models.tracer import Calls, Trace, Tracer, tensors_in


def trace(model: nn.Module, input_size: tuple[int, int]) -> Trace:
    """Follow labels through a network in evaluation mode, which is left as it was.

    Args:
        model: Takes `(N, 3, H, W)`.
        input_size: (H, W) of an image that it accepts.
    """
    clone = copy.deepcopy(model).eval()
    reference = next(clone.parameters())
    tracer = Tracer(clone, layer_rules.RULES | shape_rules.RULES)
    mark_integers(clone)
    image = torch.zeros(1, 3, *input_size, device=reference.device, dtype=reference.dtype)
    with torch.no_grad(), tracer, Calls(tracer):
        output = clone(image)
    tracer.freeze_all(tensors_in(output))
    return tracer.result()
