"""The whole base model as ONNX, made again from the zoo that the result was cut from, for comparison."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from mvp_edge.core.errors import ConfigError, ExportError, ZooError
from mvp_edge.deploy.result import Result
from mvp_edge.export import export_onnx
from mvp_edge.models.architectures import head_of
from mvp_edge.models.bases import BUNDLED, Base, file_sha256, load_base
from mvp_edge.zoo.store import open_zoo


def write_dense(result: Result, zoo: str | None, path: Path) -> None:
    """Write the base model of a result to `path`.

    Args:
        result: What `prune` has left.
        zoo: Name or directory of the zoo of that base; None takes the one that the report names.
        path: The ONNX file.

    Raises:
        ExportError: the base is not to be found, or it is another one than the result was cut from.
    """
    base, model = _load(result, zoo)
    if base.sha256 != result.base.sha256:
        raise ExportError(
            f"the result was cut from {result.base.name} ({result.base.sha256[:12]}), but this zoo's base is "
            f"{base.name} ({base.sha256[:12]}); name the zoo that it was made with: --zoo DIR"
        )
    outputs = head_of(model).out_features
    export_onnx(
        model.eval(), path, input_size=base.input_size, mean=base.mean, std=base.std,
        labels=base.classes or [str(i) for i in range(outputs)], metadata={"base": base.name},
    )  # fmt: skip


def _load(result: Result, zoo: str | None) -> tuple[Base, nn.Module]:
    try:
        bundled = BUNDLED.get(result.base.name)  # a base that the user has trained may have the name of a bundled one
        if zoo is None and bundled is not None and file_sha256(bundled) == result.base.sha256:
            return load_base(result.base.name)
        opened = open_zoo(zoo or str(result.report.get("zoo")))
        return opened.base, opened.load_base()
    except (ConfigError, ZooError) as e:
        raise ExportError(
            f"the whole model {result.base.name} cannot be made again ({e}); name the zoo that the result was made "
            "with: --zoo DIR, or leave --with-dense out"
        ) from e
