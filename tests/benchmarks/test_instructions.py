"""Instructions of an inference: how they are counted, and what is estimated from them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import records
from benchmarks.measurements import instructions
from benchmarks.runtimes import aarch64
from benchmarks.tables import phones


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, qemu: str) -> None:
    """Put a compiler that does nothing and a `qemu-aarch64` that runs a shell script before everything else."""
    for name, script in (("cc", "exit 0"), ("qemu-aarch64", qemu)):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_count_is_the_difference_of_two_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, 'for n in 10 17 30 31; do echo "executed $n" >&2; done; echo noise >&2')
    assert aarch64.count_instructions([Path("a"), Path("b")], Path("root"), tmp_path, 10) == [7, 1]
    with pytest.raises(RuntimeError, match="4 counts of 1 files"):
        aarch64.count_instructions([Path("a")], Path("root"), tmp_path, 10)


def test_a_program_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, "echo 'no such CPU' >&2; exit 3")
    with pytest.raises(RuntimeError, match="qemu-aarch64 ended with 3: no such CPU"):
        aarch64.count_instructions([Path("a")], Path("root"), tmp_path, 10)


def test_the_plugin_compiles(tmp_path: Path) -> None:
    words = ["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(tmp_path / "count.so"), str(aarch64.PLUGIN)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no C compiler is installed")
    assert done.returncode == 0, done.stderr


def known(network: str, family: str, ms: float, executed: int, phone: str = "P") -> dict[str, Any]:
    return {"network": network, "family": family, "pixels": 224, "phone": phone, "ms": ms, "instructions": executed}


def test_an_estimate_leaves_its_own_family_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        known("a1", "a", 10.0, 1_000_000), known("a2", "a", 40.0, 1_000_000), known("b", "b", 10.0, 2_000_000),
        known("c1", "c", 3.0, 1_000_000, "Q"), known("c2", "c", 8.0, 2_000_000, "Q"),
    ]  # fmt: skip
    delivered = [
        {"network": name, "precision": precision, "instructions": 3_000_000}
        for name, precision in (("lite0-80", "fp32"), ("vit", "fp32"), ("vit", "int8"))
    ]
    record = {"dirty": False, "result": {"known": rows, "delivered": delivered}}
    monkeypatch.setattr(records, "read", lambda question: [record])
    text = phones.instructions()
    cells = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines()}
    assert cells["| a1, 224 pixels"][4:] == ["5.0", "0.50x |"]  # from b alone: 5 ms for a million
    assert cells["| b, 224 pixels"][4:] == ["40.0", "4.00x |"]  # from a: 20 ms for a million
    assert cells["| c1, 224 pixels"][4:] == ["4.0", "1.33x |"]  # no other family, so from the other network
    assert "P: 4.00 in the middle, 8.00 at worst; Q: 1.33 in the middle, 1.33 at worst" in text
    one, two = 3 * (10 * 40 * 5) ** (1 / 3), 3 * 12**0.5
    first = f"{one:.1f} ({one / 8:.1f} to {one * 8:.1f})"
    assert cells["| lite0-80, fp32"][1:] == ["3 M", first, f"{two:.1f} ({two * 0.75:.1f} to {two / 0.75:.1f}) |"]
    assert cells["| vit, fp32"][1:] == ["3 M", first, " |"]  # Q is known for one family only
    assert cells["| vit, int8"][1:] == ["3 M", "", " |"]


def test_known_networks_and_delivered_files_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, Any]] = []
    result = SimpleNamespace(
        models={"fp32": Path("x"), "int8": Path("y")}, report=SimpleNamespace(body=None), base=SimpleNamespace(name="d")
    )
    monkeypatch.setattr(records, "append", lambda question, config, result, device: kept.append(result))
    monkeypatch.setattr(instructions, "read_result", lambda directory: result)
    monkeypatch.setattr(instructions, "KNOWN", instructions.KNOWN[-1:])
    monkeypatch.setattr(instructions, "build", lambda known, path: path)
    monkeypatch.setattr(instructions, "count_instructions", lambda files, *rest: list(range(len(files))))
    instructions.main([str(tmp_path), "--arm", str(tmp_path), "--allow-dirty"])
    (found,) = kept
    assert [(r["network"], r["ms"], r["instructions"]) for r in found["known"]] == [("efficientnet_lite2", 26.0, 0)]
    assert [(r["precision"], r["instructions"]) for r in found["delivered"]] == [("fp32", 1), ("int8", 2)]
