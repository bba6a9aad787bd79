"""Whether a site can be reached is known in a moment, and only that is asked."""

from __future__ import annotations

import io
import logging
import ssl
import urllib.request
from contextlib import suppress
from email.message import Message
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from mvp_edge.core.network import errors_only, require_network

URL = "https://example.org"


def answering(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[Any]:
    """Let every site answer so; return what is asked, with the seconds that the asker waits."""
    asked: list[Any] = []

    def answer(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        asked.append((request.full_url, request.method, timeout))
        if error is not None:
            raise error
        return io.BytesIO()

    monkeypatch.setattr("urllib.request.urlopen", answer)
    return asked


@pytest.mark.parametrize("error", [None, HTTPError(URL, 404, "none", Message(), None), URLError(ssl.SSLError("own"))])
def test_whatever_a_site_answers_it_is_there(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, error)
    require_network(URL)
    ((url, method, seconds),) = asked
    assert (url, method) == (URL, "HEAD") and 0 < seconds <= 5


def test_a_site_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, URLError(OSError("no route to host")))
    with pytest.raises(URLError, match="no route"):
        require_network(URL)


def test_warnings_are_kept_from_the_log_for_a_while() -> None:
    log = logging.getLogger("a library")
    log.setLevel(logging.INFO)
    with suppress(RuntimeError), errors_only("a library"):
        assert not log.isEnabledFor(logging.WARNING) and log.isEnabledFor(logging.ERROR)
        raise RuntimeError
    assert log.level == logging.INFO
