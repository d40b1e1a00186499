"""Buckets behind obstore: how one is opened, for a lake or for recordings.

Errors of obstore are never repeated: their text may hold credentials, or data that a server echoes.
obstore has no root class of errors, so callers treat whatever it raises as a failure.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from collector.errors import ConfigError
from collector.extras import missing

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CONNECT_TIMEOUT = timedelta(seconds=10)
_RETRIES, _RETRY_TIMEOUT = 2, timedelta(seconds=20)
"""How often, and for how long, a failed request is repeated."""


def open_store(
    url: str,
    options: Mapping[str, str],
    needs: tuple[str, str],
    *,
    timeout: timedelta,
    of_client: Collection[str] = (),
    proxy: str | None = None,
) -> ObjectStore:
    """Open the store of a URL with ``options`` of obstore; those named in ``of_client`` are for its
    HTTP client. For unset options, obstore reads the environment as the provider's tools do.
    ``timeout`` is for one request; ``needs`` names the feature that needs obstore, and its extra.

    Raises ``ConfigError``: E201 without obstore, E122 for a URL or options that cannot be used.
    """
    try:
        from obstore.store import from_url  # noqa: PLC0415 - heavy
    except ImportError:
        raise missing(*needs) from None
    if url.startswith("file:"):
        settings: dict[str, Any] = {}
    else:
        client: dict[str, Any] = {"timeout": timeout, "connect_timeout": _CONNECT_TIMEOUT}
        client |= {name: options[name] for name in of_client if name in options}
        is_plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
        if is_plain or options.get("endpoint", "").startswith("http:"):
            client["allow_http"] = True
        if proxy is not None:
            client["proxy_url"] = proxy
        settings = {
            "config": {name: value for name, value in options.items() if name not in of_client},
            "client_options": client,
            "retry_config": {"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        }
    with suppress(Exception):
        return from_url(url, **settings)
    message = "the bucket's URL or options cannot be used; check them against obstore's"
    raise ConfigError("E122", message)
