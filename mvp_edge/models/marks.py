"""Integers that are attributes of modules, marked so that a pass shows where a network computes shapes from them."""

from __future__ import annotations

from torch import nn

from mvp_edge.models.layer_kinds import CHANNEL_NORMS, WEIGHTED

Place = tuple[str, str, int | None]  # module, attribute, number of an entry if the attribute is a list
LEAVES = (*WEIGHTED, *CHANNEL_NORMS, nn.modules.batchnorm._BatchNorm)  # slicing itself keeps their integers right


class Marked(int):
    """An integer that is an attribute of a module."""

    place: Place


def mark_integers(model: nn.Module) -> None:
    """Replace the integers that are attributes of modules, alone or in a list, by marked ones."""
    for name, module in model.named_modules():
        if isinstance(module, LEAVES):
            continue
        for attribute, value in list(vars(module).items()):
            if type(value) is int:
                vars(module)[attribute] = _marked(value, (name, attribute, None))
            elif type(value) in (list, tuple) and value and all(type(v) is int for v in value):
                vars(module)[attribute] = type(value)(_marked(v, (name, attribute, i)) for i, v in enumerate(value))


def _marked(value: int, place: Place) -> Marked:
    marked = Marked(value)
    marked.place = place
    return marked
