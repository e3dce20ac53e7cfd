"""Keys of the gateway: callers have these, and the key of the API stays inside."""

import os
import socket
import time

import httpx2
import pytest

from cheapdeep_ops.access.token_file import with_token
from cheapdeep_ops.access.tokens import CallKey, Role, Token, hash_of
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.gateway.service import Gateway
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import Reply
from tests.endpoint import listening
from tests.gateways import HAIKU, OPUS, asked, serving
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough
PLAIN, FULL, READER = ("cdk_" + each * 40 for each in "pfr")
TOKENS = [
    Token(name="plain", hash=hash_of(PLAIN), roles=frozenset({Role.CALL}), routes=frozenset({"chat"})),
    Token(
        name="full",
        hash=hash_of(FULL),
        roles=frozenset({Role.CALL}),
        call=CallKey(route="batch", paths=("/v1/files*",), may_turn_off=True, is_graded=False),
    ),
    Token(name="reader", hash=hash_of(READER), roles=frozenset({Role.READ})),
]


@pytest.fixture
def keys_file(tmp_path):
    return written(tmp_path / "keys.toml", TOKENS)


def written(path, tokens):
    text = ""
    for token in tokens:
        text = with_token(text, token)
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def gateway(api, tmp_path, keys_file, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-inner")
    with serving(api.url, f"sqlite:///{tmp_path}/store.db", gateway_keys_file=keys_file) as served:
        yield served


def kind_of(response):
    return response.status_code, response.json()["error"]["type"]


def test_a_key_has_its_routes_and_its_paths_and_no_others(gateway, api):
    answered = gateway.post(asked(), key=PLAIN)
    assert answered.status_code == 200
    assert gateway.facts(answered, key=PLAIN).json()["route"] == "chat"
    assert gateway.facts(answered, key=FULL).status_code == 404
    assert kind_of(gateway.post(asked(), key=PLAIN, x_cheapdeep_route="other")) == (403, "permission_error")
    assert kind_of(gateway.post(asked(), key=PLAIN, x_cheapdeep_mode="off")) == (403, "permission_error")
    full = gateway.post(asked(), key=FULL, x_cheapdeep_mode="off")
    assert gateway.facts(full, key=FULL).json()["route"] == "batch"
    bearer = gateway.http.post(
        "/v1/messages", json=asked(), headers={"authorization": f"Bearer {PLAIN}", "anthropic-version": "2023-06-01"}
    )
    assert bearer.status_code == 200


def test_without_a_key_of_the_gateway_nothing_is_sent(gateway, api):
    for key in ("", "sk-ant-inner", "cdk_" + "x" * 40):
        listed = gateway.http.get("/v1/models", headers={"x-api-key": key})
        for response in (gateway.post(asked(), key=key), listed):
            assert kind_of(response) == (401, "authentication_error")
    assert kind_of(gateway.post(asked(), key=READER)) == (403, "permission_error")
    assert not api.requests


def test_a_wrong_key_is_refused_before_its_body_is_read(gateway):
    url = httpx2.URL(gateway.url)
    head = b"POST /v1/messages HTTP/1.1\r\nhost: g\r\nx-api-key: wrong\r\ncontent-length: 9000000\r\n\r\n"
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        assert connection.recv(12) == b"HTTP/1.1 401"


@pytest.mark.parametrize("body", [b"{", b'{"messages": []}', b'{"model": "claude-opus-4-7", "x": "\\ud800"}'])
def test_what_cannot_be_counted_is_not_sent_with_the_inner_key(gateway, api, body):
    assert kind_of(gateway.post(body, key=PLAIN)) == (400, "invalid_request_error")
    assert not api.requests


def test_paths_of_the_account_are_open_by_the_key_alone(gateway, api):
    def get(path, key):
        return gateway.http.get(path, headers={"x-api-key": key, "anthropic-version": "2023-06-01"})

    assert [get(path, PLAIN).status_code for path in ("/v1/models", f"/v1/models/{HAIKU}")] == [200, 200]
    count = {"model": OPUS, "messages": asked()["messages"]}
    assert gateway.post(count, path="/v1/messages/count_tokens", key=PLAIN).status_code == 200
    closed = [
        "/v1/files", "/v1/messages/batches", "/v1/organizations", "/v1/models/../files", "/v1/models/%2e%2e/files",
        "/v1/models/x%2f..%2f..%2ffiles", "/v1//files",
    ]  # fmt: skip
    api.requests.clear()
    for path in closed:
        assert get(path, PLAIN).status_code in {403, 404}, path
    assert not api.requests
    assert get("/v1/files", FULL).status_code == 200


def test_a_key_that_is_revoked_is_refused_soon(gateway, api, keys_file):
    assert gateway.post(asked(), key=PLAIN).status_code == 200
    written(keys_file, TOKENS[1:])
    os.utime(keys_file, (time.time() + 5, time.time() + 5))
    until = time.monotonic() + PATIENCE_S
    while gateway.post(asked(), key=PLAIN).status_code == 200:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert kind_of(gateway.post(asked(), key=PLAIN)) == (401, "authentication_error")
    assert gateway.post(asked(), key=FULL).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_that_is_used_up_is_402_which_no_client_retries(api, tmp_path, monkeypatch, stream):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-inner")
    poor = Token(name="poor", hash=hash_of(PLAIN), roles=frozenset({Role.CALL}), call=CallKey(usd_per_day=0.000001))
    keys_file = written(tmp_path / "keys.toml", [poor, *TOKENS[1:]])
    api.always(Reply.triage(0.95, "In the settings."), model=HAIKU)
    url = f"sqlite:///{tmp_path}/store.db"
    with serving(api.url, url, gateway_keys_file=keys_file, at_budget="refuse", flush_every_s=0.05) as gateway:
        until = time.monotonic() + PATIENCE_S
        while (response := gateway.post(asked(stream=stream), key=PLAIN)).status_code == 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert kind_of(response) == (402, "billing_error")
        assert response.headers["x-should-retry"] == "false"
        assert "retry-after" not in response.headers
        assert gateway.post(asked(), key=FULL).status_code == 200


def test_keys_need_the_key_of_the_api(tmp_path, keys_file):
    settings = Settings(store_url=f"sqlite:///{tmp_path}/store.db", gateway_keys_file=keys_file)
    with pytest.raises(SettingsError, match="needs ANTHROPIC_API_KEY"):
        Gateway(settings)


@pytest.mark.parametrize("fields", [{}, {"stream": True, "tools": [{"name": "look", "input_schema": {}}]}])
def test_only_the_inner_key_goes_upstream(tmp_path, keys_file, monkeypatch, fields):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-inner")
    with listening() as upstream:
        url = upstream.url.rpartition("/")[0]
        with serving(url, f"sqlite:///{tmp_path}/store.db", gateway_keys_file=keys_file) as gateway:
            gateway.post(asked(**fields), key=PLAIN, authorization=f"Bearer {FULL}", x_cheapdeep_input_class="a")
            gateway.post(asked(), key=PLAIN, path="/v1/messages/count_tokens")
    assert len(upstream.posts) >= 2
    for request in upstream.posts:
        assert request.headers.get_all("authorization") == ["Bearer sk-ant-inner"]
        text = str(request.headers)
        assert PLAIN not in text
        assert FULL not in text
        assert "x-cheapdeep" not in text.lower()


@pytest.mark.parametrize("name", ["x-api-key", "authorization"])
def test_without_a_file_of_keys_only_the_callers_own_key_goes_upstream(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-machine")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-machine")
    with listening() as upstream:
        url = upstream.url.rpartition("/")[0]
        # A cookie that the API sets is for its caller alone.
        upstream.answers += [(200, {"set-cookie": "a=1"})] * 2
        with serving(url, f"sqlite:///{tmp_path}/store.db") as gateway:
            for fields in ({}, {"stream": True}, {"tools": [{"name": "look", "input_schema": {}}]}):
                headers = {name: "Bearer mine", "anthropic-version": "2023-06-01"}
                httpx2.post(f"{gateway.url}/v1/messages", json=asked(**fields), headers=headers, timeout=PATIENCE_S)
    assert len(upstream.posts) >= 5
    other = "authorization" if name == "x-api-key" else "x-api-key"
    for request in upstream.posts:
        assert request.headers.get_all(name) == ["Bearer mine"]
        assert other not in request.headers
        assert "machine" not in str(request.headers)
        assert "cookie" not in request.headers
