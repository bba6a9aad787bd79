"""What is said of a value that an option does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune", "--keep", "10%"], "'--keep': '10%' is not a number; write 0.1"),
        (["prune", "--keep", "half"], "'--keep': 'half' is not a number; write a fraction such as 0.1"),
        (["prune", "--max-latency-ms", "0"], "'--max-latency-ms': '0' is not a limit; it must be above 0 and finite"),
        (["prune", "--precision", "int4"], "'--precision': 'int4' is not one of 'auto', 'fp32', 'fp16', 'int8'."),
        (
            ["export", "out", "--target", "tflite"],
            "'--target': 'tflite' must be one of android, ios, web, ort, litert, coreml, ncnn; android and ios",
        ),
    ],
)
def test_a_wrong_value_is_told_in_our_words(run: Run, task: Path, words: list[str], said: str) -> None:
    done = run(*words, *(["--task", task] if words[0] == "prune" else []))
    assert said in done.usage_error()
