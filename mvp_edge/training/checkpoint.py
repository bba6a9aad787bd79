"""The state of a training run on disk, so that a killed one goes on where it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.bases import read_tensors


@dataclass(frozen=True)
class Checkpoint:
    """Weights, the optimiser's state and step of a run, bound to its settings."""

    path: Path
    settings: dict[str, Any]

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Write the state of a run, all or nothing.

        Raises:
            ConfigError: it cannot be written.
        """
        tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
        for i, parameter in enumerate(model.parameters()):
            tensors |= {f"{key}/{i}": v for key, v in optimizer.state[parameter].items() if torch.is_tensor(v)}
        meta = {"step": str(step), "settings": json.dumps(self.settings)}
        try:
            write_atomically(self.path, save({k: v.contiguous().cpu() for k, v in tensors.items()}, metadata=meta))
        except OSError as e:
            raise ConfigError(f"cannot write {self.path} ({e.strerror or e}); make room or choose another --out") from e

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore a run and return the step it goes on with; 0 if there is nothing to restore.

        Raises:
            ConfigError: the checkpoint belongs to a run with other settings.
        """
        if not self.path.exists():
            return 0
        tensors, meta = read_tensors(self.path)
        if json.loads(meta.get("settings", "null")) != self.settings:
            raise ConfigError(
                f"{self.path} belongs to a run with other settings; delete it to start again, or repeat those settings"
            )
        model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
        parameters = list(model.parameters())
        for name, value in tensors.items():
            key, _, i = name.rpartition("/")
            if key != "model":
                # Adam's count of steps, a scalar, stays on the CPU, where reading it waits for nothing. All else is in
                # the order of the weights: fused steps go through both by address.
                parameter = parameters[int(i)]
                state = value if value.ndim == 0 else torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                optimizer.state[parameter][key] = state.detach()
        return int(meta["step"])
