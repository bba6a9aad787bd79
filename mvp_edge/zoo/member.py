"""One member of a zoo: a recipe (task, plan, how it was made, how good it is), sliced tensors, and their outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mvp_edge.core.errors import PlanError, ZooError
from mvp_edge.core.untrusted import check_printable, typed
from mvp_edge.models.architectures import set_head
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.models.tensors import compress, deserialise, load_weights
from mvp_edge.names.tasks import Task, TaskClass, canonical, numbered
from mvp_edge.zoo.location import FORMAT

MemberKind = Literal["specialist", "generalist"]


@dataclass(frozen=True)
class MemberInfo:
    """All of a member but its tensors.

    Attributes:
        id: Name of its directory.
        task: What it was pruned for.
        kind: `specialist` for a few classes, `generalist` for all that the base knows.
        plan: What it keeps.
        base_sha256: Checksum of the base model's weights it was cut from.
        recipe: How it was made: method, iterations, seed, versions.
        top1: Percent on the test split of its own task, or None if it was not measured.
        weights_sha256: Checksum of its tensors' file.
        outputs_sha256: Checksum of the file with its outputs on the test split; empty if there is none.
    """

    id: str
    task: Task
    kind: MemberKind
    plan: KeepPlan
    base_sha256: str
    recipe: dict[str, Any] = field(default_factory=dict)
    top1: float | None = None
    weights_sha256: str = ""
    outputs_sha256: str = ""

    def knows(self, task: Task) -> bool:
        """Say whether all classes of a resolved task are among its own, by name and in the same sense."""
        return not task.unknown_to(self.task)

    def covers(self, task: Task) -> bool:
        """Say whether it is generalist and knows the whole task, so that it can be cut to it without any training."""
        return self.kind == "generalist" and self.knows(task)

    @property
    def sort_key(self) -> tuple[float, str]:
        """What sorts members largest first, and those of one size by id: accuracy on test images decides nothing."""
        return (-self.plan.achieved, self.id)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value; `from_json` is its inverse."""
        return {
            "format": FORMAT,
            "id": self.id,
            "kind": self.kind,
            "classes": [{"name": c.name, "synset": c.synset} for c in self.task.classes],
            "top1": self.top1,
            "recipe": self.recipe,
            "base_sha256": self.base_sha256,
            "weights_sha256": self.weights_sha256,
            "outputs_sha256": self.outputs_sha256,
            "plan": self.plan.to_json(),
        }

    @staticmethod
    def from_json(value: dict[str, Any], where: str) -> MemberInfo:
        """Read what `to_json` wrote.

        Raises:
            ZooError: the value describes no member, or one of another format.
        """
        try:
            if value["format"] != FORMAT:
                raise ZooError(
                    f"{where} has format {value['format']!r}, but this version reads {FORMAT}; "
                    "remove its directory and build it again"
                )
            found = MemberInfo(
                id=value["id"],
                task=Task(tuple(TaskClass(c["name"], c["synset"]) for c in value["classes"])),
                kind=value["kind"],
                plan=KeepPlan.from_json(value["plan"]),
                base_sha256=value["base_sha256"],
                recipe=value["recipe"],
                top1=value["top1"],
                weights_sha256=value["weights_sha256"],
                outputs_sha256=value["outputs_sha256"],
            )
            typed(asdict(found), MemberInfo)
            check_printable(found.task.names)
            if not found.plan.groups:
                raise ValueError("its plan has no groups")
            if len({canonical(name) for name in found.task.names}) < len(found.task.names):
                raise ValueError("it has a class twice")
            return found
        except (AttributeError, KeyError, TypeError, ValueError, PlanError) as e:
            raise ZooError(f"{where} is damaged ({e}); remove its directory and build it again") from e


@dataclass(frozen=True)
class Member:
    """A member with its tensors."""

    info: MemberInfo
    state: dict[str, Tensor]

    def network(self, prunable: PrunableModel) -> nn.Module:
        """Return it as a network with its own head, in evaluation mode.

        Args:
            prunable: The base model that it was cut from.

        Raises:
            ZooError: its tensors do not fit its plan.
        """
        model = sliced_copy(prunable.model, prunable.table, self.info.plan)
        weight = self.state[f"{prunable.head}.weight"]
        set_head(model, nn.Linear(weight.shape[1], weight.shape[0]))
        self.load_into(model)
        return model.eval()

    def load_into(self, model: nn.Module) -> None:
        """Load its tensors into a network of its shape, in place.

        Raises:
            ZooError: its tensors are not those of the network.
        """
        try:
            load_weights(model, self.state)
        except ValueError as e:
            raise ZooError(f"member {self.info.id} does not fit its plan ({e}); remove its directory") from e


def member_id(task: Task, recipe: dict[str, Any]) -> str:
    """Return the name of the member that a recipe makes for a task.

    The images count with their content (`data_sha256`), not with the name of their folder (`data`).
    """
    identity = {k: v for k, v in recipe.items() if k != "data"}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{task.id}-{digest[:6]}"


def read_weights(data: bytes, where: str) -> dict[str, Tensor]:
    """Return the tensors in a file's bytes, in single precision.

    Raises:
        ZooError: the bytes are damaged.
    """
    try:
        return deserialise(data)[0]
    except ValueError as e:
        raise ZooError(
            f"{where} is not a readable safetensors file ({e}); remove its directory and build it again"
        ) from e


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a generalist answers to all images of a test split: enough for its accuracy on any of its classes.

    Attributes:
        logits: Float `(N, C)`.
        labels: Integer `(N,)`.
    """

    logits: Tensor
    labels: Tensor

    def of(self, classes: Sequence[str], known: Sequence[str]) -> Outputs:
        """Return the images and columns of some classes, in their order.

        Args:
            classes: The classes asked for, all among `known`.
            known: Names of the columns.
        """
        row = numbered(known)
        columns = torch.tensor([row[canonical(n)] for n in classes])
        place = torch.full((len(known),), -1)
        place[columns] = torch.arange(len(columns))
        labels = place[self.labels]
        return Outputs(self.logits[labels >= 0][:, columns], labels[labels >= 0])


def write_outputs(outputs: Outputs) -> bytes:
    """Return outputs as bytes: how far each logit is below the largest of its image, in half precision.

    The nearer to the largest, the finer the steps, so that no two leading logits become equal. The two bytes of the
    halves lie apart, as gzip shortens nothing but the upper ones: three quarters of the size.
    """
    largest = outputs.logits.amax(1, keepdim=True)
    halves = (outputs.logits - largest).half().view(torch.uint8)
    labels = outputs.labels.to(torch.int16)
    tensors = {"lower": halves[:, 0::2], "upper": halves[:, 1::2], "largest": largest, "labels": labels}
    return compress(save({k: v.contiguous() for k, v in tensors.items()}))


def read_outputs(data: bytes, where: str) -> Outputs:
    """Read what `write_outputs` wrote.

    Raises:
        ZooError: the bytes are damaged.
    """
    try:
        tensors, _ = deserialise(data)
        halves = torch.stack((tensors["lower"], tensors["upper"]), -1).view(torch.float16).squeeze(-1)
        logits, labels = halves.float() + tensors["largest"], tensors["labels"].long()
        if logits.ndim != 2 or logits.shape != halves.shape or labels.shape != logits.shape[:1]:
            raise ValueError(f"logits of shape {tuple(logits.shape)} for labels of shape {tuple(labels.shape)}")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
            raise ValueError("a label is none of its classes")
        return Outputs(logits, labels)
    except (ValueError, KeyError, RuntimeError) as e:
        raise ZooError(f"{where} is damaged ({e}); remove its directory and build the member again") from e
