import torch

from mvp_edge.core.streams import rng, torch_rng


def test_streams_are_named_and_repeatable() -> None:
    draws = [rng(s, p).random() for s, p in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))]
    assert draws[0] == draws[1] and len(set(draws)) == 3
    assert torch.equal(torch.rand(3, generator=torch_rng(0, "a")), torch.rand(3, generator=torch_rng(0, "a")))
