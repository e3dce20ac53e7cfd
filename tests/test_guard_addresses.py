"""Addresses of guards: HTTPS, proxies, and what is refused."""

import ssl
import time
from pathlib import Path

import pytest

from cheapdeep_ops import Settings
from cheapdeep_ops.errors import SettingsError, StoreError
from cheapdeep_ops.recorder.guard_destination import GuardDestination
from tests.guards import TOKEN, calls, drained, recorder_at, serving
from tests.raw_server import forward, talking

CERTIFICATE = Path(__file__).with_name("loopback.pem")


@pytest.fixture
def store_url(tmp_path):
    return f"sqlite:///{tmp_path}/guard.db"


@pytest.fixture
def trusted(monkeypatch):
    """The certificate of the tests counts as one of the system's authorities."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


def test_a_guard_serves_https_and_a_certificate_that_is_not_trusted_is_refused(store_url, trusted, monkeypatch):
    with serving(store_url, certificate=CERTIFICATE) as guard:
        assert guard.url.startswith("https://")
        recorder = recorder_at(guard.url)
        drained(recorder, calls=2)
        recorder.close()
        assert calls(store_url) == 2
        monkeypatch.delenv("SSL_CERT_FILE")
        recorder = recorder_at(guard.url)
        with pytest.raises(StoreError, match="certificate verify failed"):
            drained(recorder, calls=1)
        recorder._destination.close()


@pytest.mark.thorough
def test_a_proxy_of_the_environment_carries_https_and_no_proxy_names_exceptions(store_url, trusted, monkeypatch):
    with serving(store_url, certificate=CERTIFICATE) as guard, talking(forward) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//me:s%40x@"))
        recorder = recorder_at(guard.url)
        drained(recorder, calls=2)
        (request,) = proxy.requests
        assert request.startswith(f"CONNECT 127.0.0.1:{guard.port} ")
        assert "proxy-authorization: basic bwu6c0b4" in request.lower()
        assert TOKEN not in request
        recorder.close()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        recorder = recorder_at(guard.url)
        drained(recorder, calls=1)
        recorder.close()
        assert len(proxy.requests) == 1
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("HTTPS_PROXY", "socks5://me:s3cret@127.0.0.1:1")
        recorder = recorder_at(guard.url)
        with pytest.raises(StoreError, match="needs the form http://host:port") as refused:
            drained(recorder, calls=1)
        assert "s3cret" not in str(refused.value)
        recorder._destination.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://guard.internal:8642", "write https://"), ("http://10.0.0.7", "write https://"),
        ("https://me:s3cret@guard", "set CHEAPDEEP_GUARD_TOKEN"), ("https://", "form https://host:port"),
        ("https://guard/?token=s3cret", "without a query"), ("http:guard", "form https://host:port"),
        ("https://gu ard", "form https://host:port"),
    ],
)  # fmt: skip
def test_a_guards_address_that_would_show_a_token_is_refused(url, said):
    with pytest.raises(SettingsError, match=said) as refused:
        Settings(store_url=url, guard_token=TOKEN)
    assert "s3cret" not in str(refused.value)


def test_a_guards_address_needs_a_token_and_a_certificate_needs_a_key(tmp_path):
    with pytest.raises(SettingsError, match="CHEAPDEEP_GUARD_TOKEN"):
        Settings(store_url="https://guard.internal:8642")
    for given in ("tls_cert", "tls_key"):
        with pytest.raises(SettingsError, match="need each other"):
            Settings(**{given: tmp_path / "file.pem"})
    for url in ("http://localhost:8642", "http://127.0.0.1", "http://[::1]:8642", "https://guard/behind/a/proxy"):
        assert Settings(store_url=url, guard_token=TOKEN).asked_guard == url


def test_the_certificates_are_checked_by_the_systems_own_means(trusted):
    destination = GuardDestination("https://127.0.0.1:1", token="t", clock=time.time, on_news=lambda: None)
    context = destination._connection._new(1.0)._context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
