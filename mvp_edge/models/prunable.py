"""A base model, analysed once: which of its units belong together, and where its head is."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvp_edge.models.architectures import head_name
from mvp_edge.models.bases import Base
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.slicing import faithfulness
from mvp_edge.models.support import faithful_groups
from mvp_edge.models.tensors import COUNTER


@dataclass(frozen=True, eq=False)
class PrunableModel:
    """A base model with what is derived from it once: its groups of coupled units, and where its head is."""

    base: Base
    model: nn.Module
    table: GroupTable
    head: str

    @staticmethod
    def of(base: Base, model: nn.Module) -> PrunableModel:
        """Analyse a base model.

        Raises:
            PlanError: it cannot be sliced.
        """
        table = faithful_groups(model, base.arch, base.input_size, base.embedding)
        return PrunableModel(base, model, table, head_name(model))

    def state_of(self, model: nn.Module) -> dict[str, Tensor]:
        """Return a sliced model's tensors as they are stored in a zoo."""
        return {k: v for k, v in model.state_dict().items() if not k.endswith(COUNTER)}

    def headless(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors without those of the classifier, whose rows mean other classes in every member."""
        return {k: v for k, v in state.items() if not k.startswith(f"{self.head}.")}

    def verify_slicing(self, plan: KeepPlan) -> float:
        """Return how far the sliced model is from the masked one on random images; see `faithfulness`.

        Raises:
            PlanError: too far, or the sliced model does not run.
        """
        images = torch.randn(2, 3, *self.base.input_size, generator=torch.Generator().manual_seed(0))
        return faithfulness(copy.deepcopy(self.model).to("cpu"), self.table, plan, images)
