"""Which layers are attention."""

import pytest

from mvp_edge.models.attention import attentions, is_attention
from tests.transformers import small_vit


@pytest.mark.parametrize("lacks", ["qkv", "proj", "num_heads", "head_dim"])
def test_what_lacks_a_part_is_no_attention(lacks: str) -> None:
    layer = attentions(small_vit())["blocks.0.attn"]
    assert is_attention(layer)
    delattr(layer, lacks)
    assert not is_attention(layer)
