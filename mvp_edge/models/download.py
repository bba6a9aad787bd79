"""timm's weights, from the cache or the network."""

from __future__ import annotations

from pathlib import Path

import timm

from mvp_edge.core.errors import ConfigError
from mvp_edge.core.network import errors_only, hub_errors, require_network


def download_weights(arch: str) -> Path:
    """Return timm's own weights as safetensors, from the cache or the network; nothing is ever unpickled.

    Args:
        arch: Name of the model.

    Raises:
        ConfigError: timm has none, or they are neither in the cache nor to be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    cfg = timm.get_pretrained_cfg(arch)
    if cfg is None:
        raise ConfigError(f"timm has no weights for {arch}; give your own with --weights FILE.safetensors")
    place = (cfg.hf_hub_id or f"timm/{arch}", "model.safetensors")
    try:
        with errors_only("huggingface_hub"):
            try:
                return Path(hf_hub_download(*place, local_files_only=True))
            except LocalEntryNotFoundError:
                if not constants.HF_HUB_OFFLINE:
                    require_network(constants.ENDPOINT)
                return Path(hf_hub_download(*place))
    except hub_errors() as e:
        raise ConfigError(
            f"timm's weights for {arch} are not in the cache {constants.HF_HUB_CACHE} and cannot be downloaded "
            f"({type(e).__name__}); connect once, or give a local file with --weights FILE.safetensors"
        ) from e
