"""Values that settings may have, and the check of them."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from mvp_edge.core.errors import ConfigError

Similarity = Literal["auto", "leep", "wordnet"]
Vote = Literal["top", "sample"]
Voters = Literal["auto", "any", "specialist", "generalist"]
Method = Literal["mvp", "smsp"]
ChannelMultiple = int | Literal["auto"]
InputFormat = Literal["float32-nchw", "uint8-nhwc"]
Precision = Literal["auto", "fp32", "fp16", "int8"]
Importance = Literal["activation", "taylor", "random"]
Packing = Literal["float16", "int8", "int8-fine"]
Parent = Literal["generalist", "base"]
Schedule = Literal["auto", "fixed"]
Optimizer = Literal["sgd", "adamw"]
Norms = Literal["batch", "fixed"]
Pruner = Literal["auto", "ifp", "ahnp"]
Embedding = Literal["whole", "pruned"]
Launcher = Literal["local", "ray", "slurm"]


def check(problems: list[str]) -> None:
    """Raise one `ConfigError` that lists all problems, if there are any."""
    if problems:
        raise ConfigError("; ".join(problems))


def out_of_range(settings: object, **allowed: Any) -> list[str]:
    """Return one sentence for each setting outside its range: an interval such as `"(0, 1]"`, or a `Literal`."""
    problems = []
    for name, wanted in allowed.items():
        value, shown = getattr(settings, name), name.replace("_", " ")
        if not isinstance(wanted, str):
            if value not in get_args(wanted):
                problems.append(f"{shown} is {value!r}; it must be one of {', '.join(get_args(wanted))}")
        elif not _inside(value, wanted):
            problems.append(f"{shown} is {value}; it must be {_in_words(wanted)}")
    return problems


def size_problems(settings: Any) -> list[str]:
    """Return what is wrong with a fraction to keep and a channel multiple."""
    problems = out_of_range(settings, keep="(0, 1]")
    if settings.channel_multiple != "auto":
        problems += out_of_range(settings, channel_multiple="[1, inf]")
    return problems


def _ends(interval: str) -> tuple[float, float]:
    low, high = interval[1:-1].split(",")
    return float(low), float(high)


def _inside(value: float, interval: str) -> bool:
    low, high = _ends(interval)
    return (low <= value if interval[0] == "[" else low < value) and (
        value <= high if interval[-1] == "]" else value < high
    )


def _in_words(interval: str) -> str:
    low, high = _ends(interval)
    if high < math.inf:
        return f"in {interval}"
    return f"{'at least' if interval[0] == '[' else 'above'} {low:g}{' and finite' if interval[-1] == ')' else ''}"
