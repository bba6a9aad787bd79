"""timm's weights, from the cache or the network."""

from __future__ import annotations

import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm

from mvp_edge.core.errors import ConfigError

PATIENCE_S = 5  # for a site to answer at all


def download_weights(arch: str) -> Path:
    """Return timm's own weights as safetensors, from the cache or the network; nothing is ever unpickled.

    Args:
        arch: Name of the model.

    Raises:
        ConfigError: timm has none, or they are neither in the cache nor to be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cfg = timm.get_pretrained_cfg(arch)
    if cfg is None:
        raise ConfigError(f"timm has no weights for {arch}; give your own with --weights FILE.safetensors")
    place = (cfg.hf_hub_id or f"timm/{arch}", "model.safetensors")
    try:
        with _errors_only("huggingface_hub"):  # its warnings tell of every retry what the exception says in the end
            try:
                return Path(hf_hub_download(*place, local_files_only=True))
            except LocalEntryNotFoundError:
                if not constants.HF_HUB_OFFLINE:
                    _require_network(constants.ENDPOINT)
                return Path(hf_hub_download(*place))
    except (*HfHubHTTPError.__bases__, LocalEntryNotFoundError, OSError) as e:  # pyright: ignore[reportGeneralTypeIssues]
        # Its base is the error of the library that the hub speaks HTTP with, which is another one in every major
        # version; a connection that breaks off comes out as that.
        raise ConfigError(
            f"timm's weights for {arch} are not in the cache {constants.HF_HUB_CACHE} and cannot be downloaded "
            f"({type(e).__name__}); connect once, or give a local file with --weights FILE.safetensors"
        ) from e


@contextmanager
def _errors_only(logger: str) -> Iterator[None]:
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _require_network(url: str) -> None:
    """Raise `URLError` if a site cannot be reached; `hf_hub_download` takes 23 silent seconds of retries to find out.

    Whatever the site answers is for the download to judge: so are certificates, which it may check otherwise.
    """
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - https, unless the user's HF_ENDPOINT is not
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        pass
    except urllib.error.URLError as e:
        if not isinstance(e.reason, ssl.SSLError):
            raise
