"""The Hugging Face Hub over the network: quick to notice that there is none, and quiet about retries."""

from __future__ import annotations

import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 5  # for a site to answer at all


def hub_errors() -> tuple[type[BaseException], ...]:
    """Return what huggingface_hub raises when it cannot fetch a file.

    Among it is the error of the library that it speaks HTTP with, which is another one in every major version; a
    connection that breaks off comes out as that.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    return (*HfHubHTTPError.__bases__, LocalEntryNotFoundError, OSError)


@contextmanager
def errors_only(logger: str) -> Iterator[None]:
    """Keep a library's warnings from the log: they tell of every retry what the exception says in the end."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def require_network(url: str) -> None:
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
