"""Clients for callers of a gateway: each sends with the headers of one caller, over connections that all share."""

from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic, omit
from anthropic._base_client import get_platform

from cheapdeep_ops.claude.clients import async_http_client

_CREDENTIALS = ("X-Api-Key", "Authorization")


def make_gateway_client(base_url: str | None = None) -> AsyncAnthropic:
    """A client for the API at `base_url`, or where the environment says, which sends no key of its own.

    It keeps no cookies, because they would go from one caller to another.
    """
    http_client = async_http_client()
    http_client._cookies = httpx2.Cookies(CookieJar(DefaultCookiePolicy(allowed_domains=[])))  # noqa: SLF001 - it has no public way
    return AsyncAnthropic(
        base_url=base_url, api_key="none", http_client=http_client, max_retries=0, open_telemetry=False
    )


def own_credentials() -> dict[str, str]:
    """The headers with the key or the token of the API that the environment names; empty if it names none."""
    with Anthropic() as client:
        return {**client.auth_headers}


def client_for_caller(client: AsyncAnthropic, headers: Mapping[str, str]) -> AsyncAnthropic:
    """A client that shares the connections of `client` and sends `headers`; the caller's key is one of them."""
    without: dict[str, Any] = {
        name: omit for name in _CREDENTIALS if name.lower() not in {each.lower() for each in headers}
    }
    made = client.with_options(default_headers={**without, **headers})
    # The SDK would find it out in a thread at the first request of each client.
    made._platform = get_platform()  # noqa: SLF001
    return made
