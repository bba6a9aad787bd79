"""What settings may be, and how they are checked."""

from __future__ import annotations

from typing import Literal

from mvp_edge.core.errors import ConfigError

Similarity = Literal["auto", "leep", "wordnet"]
Vote = Literal["top", "sample"]
Voters = Literal["auto", "any", "specialist", "generalist"]
Method = Literal["mvp", "smsp"]
ChannelMultiple = int | Literal["auto"]
InputFormat = Literal["float32-nchw", "uint8-nhwc"]
Precision = Literal["auto", "fp32", "fp16", "int8"]
Importance = Literal["activation", "taylor", "random"]
Packing = Literal["float16", "int8"]
Parent = Literal["generalist", "base"]
Schedule = Literal["auto", "fixed"]
Optimizer = Literal["sgd", "adamw"]
Norms = Literal["batch", "fixed"]
Pruner = Literal["auto", "ifp", "ahnp"]
Embedding = Literal["whole", "pruned"]


def check(problems: list[str]) -> None:
    """Raise one `ConfigError` that lists all problems, if there are any."""
    if problems:
        raise ConfigError("; ".join(problems))


def size_problems(keep: float, channel_multiple: ChannelMultiple) -> list[str]:
    """Return what is wrong with a fraction to keep and a channel multiple."""
    problems = []
    if not 0 < keep <= 1:
        problems.append(f"keep is {keep}; it must be in (0, 1], such as 0.1 to keep a tenth")
    if channel_multiple != "auto" and channel_multiple < 1:
        problems.append(f"channel multiple is {channel_multiple}; it must be at least 1, or auto")
    return problems
