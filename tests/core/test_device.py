from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from mvp_edge.core.device import (
    Bf16,
    autocast,
    keep_memory,
    on_device,
    on_host,
    resolve_device,
    trains_in_bf16,
    use_bf16,
    use_threads,
)
from mvp_edge.core.environment import environment
from mvp_edge.core.errors import ConfigError


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "", "mps:0"])
def test_unknown_devices_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        resolve_device(name)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="no CUDA device"):
        resolve_device("cuda")
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "mps")


@pytest.fixture
def own_threads() -> Iterator[int]:
    """The number of threads, put back afterwards."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_threads(own_threads: int) -> None:
    use_threads(None)
    assert torch.get_num_threads() == own_threads
    use_threads(own_threads + 1)
    assert environment(torch.device("cpu"))["torch_threads"] == own_threads + 1
    with pytest.raises(ConfigError, match="threads is 0"):
        use_threads(0)


def test_autocast_only_where_asked_for() -> None:
    with autocast(torch.device("cpu"), bf16=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.fixture
def own_bf16() -> Iterator[None]:
    """The choice of bfloat16, put back afterwards."""
    yield
    use_bf16("auto")


@pytest.mark.parametrize(
    ("choice", "flags", "dtype"),
    [
        ("auto", {"avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ("auto", {"avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ("auto", {"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ("auto", {}, torch.float32),
        ("on", {}, torch.bfloat16),
        ("off", {"amx_bf16": True}, torch.float32),
    ],
)
def test_bfloat16_is_chosen_or_follows_the_hardware(
    choice: Bf16, flags: dict[str, bool], dtype: torch.dtype, own_bf16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    use_bf16(choice)
    with autocast(torch.device("cpu"), bf16=True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert environment(torch.device("cpu"))["bf16"] is (dtype == torch.bfloat16)
    with autocast(torch.device("cpu"), bf16=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(("major", "fast"), [(7, False), (8, True), (12, True)])
def test_bfloat16_is_used_on_cards_that_compute_in_it(major: int, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def properties(device: torch.device) -> SimpleNamespace:
        asked.append(device)
        return SimpleNamespace(major=major)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # emulation included
    second = torch.device("cuda", 1)
    assert trains_in_bf16(second) is fast
    assert asked == [second]


def test_weights_are_laid_out_for_where_they_are() -> None:
    model = torch.nn.Conv2d(4, 8, 3)
    computing = on_device(model, torch.device("cpu")).weight
    assert computing.is_contiguous(memory_format=torch.channels_last) and not computing.is_contiguous()
    assert on_host(model).weight.is_contiguous()


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process on Linux that has not yet been told to keep its memory; as before afterwards."""
    monkeypatch.setattr("mvp_edge.core.device.sys.platform", "linux")
    keep_memory.cache_clear()
    yield monkeypatch
    keep_memory.cache_clear()


def test_what_computes_on_the_cpu_keeps_its_memory(linux: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda option, value: told.append((option, value)))
    linux.setattr("mvp_edge.core.device.ctypes.CDLL", lambda name: library)
    for _ in range(2):
        on_device(torch.nn.Linear(2, 2), torch.device("cpu"))
    assert told == [(-1, 2**31 - 1), (-3, 2**30)]  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, once


def test_another_c_library_is_left_alone(linux: pytest.MonkeyPatch) -> None:
    linux.setattr("mvp_edge.core.device.ctypes.CDLL", lambda name: SimpleNamespace())
    keep_memory()
