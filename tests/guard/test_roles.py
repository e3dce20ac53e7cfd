"""Each path of the guard's API over real HTTP: which role opens it, and what a token without it is told."""

import threading
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from cheapdeep_ops.access.token_file import with_token, without_token
from cheapdeep_ops.access.token_writer import change
from cheapdeep_ops.access.tokens import Role, Token, hash_of
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.service import Service
from cheapdeep_ops.listening import listen
from cheapdeep_ops.store import incidents, policies, silences

OPEN = {"/healthz", "/readyz"}
CONTENT = {"/api/v1/review/next"}
OUTCOME = {"/api/v1/outcomes", "/api/v1/outcomes/batch"}
BY = {"author": "mallory", "why": "trial"}
BODIES = {
    "put_pin": {"threshold": 0.7, **BY},
    "post_relearn": {"route": "support", **BY},
    "post_label": {"call_id": "call-1", "verdict": "correct", "author": "mallory"},
    "post_labels": {"labels": [{"call_id": "call-1", "verdict": "correct"}], "author": "mallory"},
    "post_outcome": {"call_id": "call-1", "outcome": "wrong", "source": "form"},
    "post_outcomes": {"outcomes": [{"call_id": "call-1", "outcome": "wrong", "source": "form"}]},
    "post_silence": {"rule": "EscalationStorm", "for_s": 60.0, **BY},
}
INSUFFICIENT = 'Bearer error="insufficient_scope", scope="{}"'


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


class NoMetrics:
    def collect(self):
        return []


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    """A file with a token for each role, whose secret and name are that role, and one with all of them."""
    path = tmp_path / "tokens.toml"
    for role in Role:
        add(path, role.value, roles=frozenset({role}))
    add(path, "all", roles=frozenset(Role))
    return path


def add(path, secret, **changes):
    token = Token(name=secret, hash=hash_of(secret), **changes)
    change(path, lambda text: with_token(text, token), creates=True)


@contextmanager
def answering(api: FastAPI):
    """A client of the API behind uvicorn."""
    with listen("127.0.0.1", 0, setting="CHEAPDEEP_PORT") as listener:
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning"))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            running.join(60)


@pytest.fixture
def serve(store, settings, path, clock):
    def made(**changes):
        known = {"host": "0.0.0.0", "api_tokens_file": path, "api_tokens": (SecretStr("plain"),), **changes}
        mine = settings.model_copy(update=known)
        access = Access(mine, clock=clock, monotonic=clock)
        return make_api(store, settings=mine, collector=NoMetrics(), is_ready=str, clock=clock, access=access)

    return made


def operations(api):
    for path, methods in api.openapi()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def needed(method, path):
    if path in OPEN:
        return None
    if path in CONTENT:
        return "content"
    if path in OUTCOME:
        return "outcome"
    return "read" if method == "GET" else "act"


def ask(client, method, path, token=None, **body):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return client.request(method, path, headers=headers, json=body or None)


def ids_in(path):
    return path.format_map({"incident_id": 1, "silence_id": 1, "message_id": 1})


def test_every_path_is_opened_by_its_role_alone(serve):
    api = serve()
    with answering(api) as client:
        seen = set()
        for method, path, operation in operations(api):
            role = needed(method, path)
            documented = operation.get("security", [])
            assert documented == ([] if role is None else [{"HTTPBearer": [role]}]), path
            body = BODIES.get(operation["operationId"], BY if method in {"POST", "DELETE"} else {})
            for token in (None, "never", *Role, "all", "plain"):
                answer = ask(client, method, ids_in(path), token, **body)
                expected = (None, None)
                if role is not None and token is None:
                    expected = (401, "Bearer")
                elif role is not None and token == "never":
                    expected = (401, 'Bearer error="invalid_token"')
                elif role is not None and token not in {role, "all", *([] if role == "outcome" else ["plain"])}:
                    expected = (403, INSUFFICIENT.format(role))
                got = answer.status_code if answer.status_code in {401, 403} else None
                assert (got, answer.headers.get("www-authenticate")) == expected, (method, path, token)
            seen.add(role)
        assert seen == {None, "read", "act", "content", "outcome"}


def test_on_loopback_reading_needs_no_token_and_content_does(serve):
    api = serve(host="127.0.0.1")
    with answering(api) as client:
        for method, path, _ in operations(api):
            refused = ask(client, method, ids_in(path)).status_code == 401
            assert refused == (needed(method, path) in {"act", "content", "outcome"}), path


def changes_of(store):
    with store.reading() as connection:
        return [(each["scope"], each["author"]) for each in policies.history(connection)]


def test_the_author_is_the_name_of_the_token_and_beside_it_that_of_the_request(serve, store):
    with answering(serve()) as client:
        for token in ("act", "plain"):
            assert ask(client, "PUT", "/api/v1/policy/pin", token, threshold=0.7, **BY).status_code == 200
    assert changes_of(store) == [("*", "mallory"), ("*", "act (mallory)")]


@pytest.mark.thorough
def test_a_limited_token_changes_nothing_beyond_its_routes(serve, store, path):
    add(path, "team", roles=frozenset({Role.ACT, Role.CONTENT}), routes=frozenset({"support"}))

    def work(connection):
        for scope in ("support", "billing"):
            number = incidents.open_incident(connection, rule="EscalationStorm", scope=scope, at=1.0)
            message = {"incident_id": number, "kind": "test", "payload": {"kind": "test"}, "at": 1.0}
            incidents.enqueue(connection, **message)
            period = {"since": 0.0, "until": 9e9, "author": "ann", "why": ""}
            silences.add_silence(connection, rule="EscalationStorm", scope=scope, **period)
        silences.add_silence(connection, rule="EscalationStorm", scope=None, **period)

    store.transact(work)
    pin = ("PUT", "/api/v1/policy/pin", {"threshold": 0.7})
    silence = ("POST", "/api/v1/silences", {"rule": "EscalationStorm", "for_s": 60.0})
    label = {"call_id": "never", "verdict": "correct", "author": "x"}
    refusal = (403, INSUFFICIENT.format("act"), "this token is limited to other routes")
    with answering(serve()) as client:

        def status(method, path, body):
            answer = ask(client, method, path, "team", **body)
            if answer.status_code == 403:
                assert (403, answer.headers["www-authenticate"], answer.json()["detail"]) == refusal
            return answer.status_code

        for method, where, body in (pin, silence):
            assert status(method, where, {**body, "route": "support", **BY}) == 200
            assert status(method, where, {**body, "route": "billing", **BY}) == 403
            assert status(method, where, {**body, **BY}) == 403
        for method, where in (("POST", "incidents/{}/ack"), ("DELETE", "silences/{}")):
            found = [status(method, f"/api/v1/{where.format(number)}", BY) for number in (1, 2, 3, 99)]
            assert found == [200, 403, 403, 403], where
        for act in ("drop", "retry"):
            found = [status("POST", f"/api/v1/undelivered/{number}/{act}", BY) for number in (1, 2, 99)]
            assert found[1:] == [403, 403], act
            assert found[0] != 403
        assert status("POST", "/api/v1/labels", label) == 403
        content = "/api/v1/review/next"
        assert [ask(client, "GET", where, "team").status_code for where in (content, f"{content}?route=support")] == [
            403,
            200,
        ]
    assert set(changes_of(store)) == {("support", "team (mallory)")}


def test_a_label_is_about_the_route_of_its_call(school, serve, path):
    school.teach(40, 0.5)
    for name, route in (("mine", "support"), ("other", "billing")):
        add(path, name, roles=frozenset({Role.ACT}), routes=frozenset({route}))
    labels = {"labels": [{"call_id": "call-1", "verdict": "correct"}], "author": "x"}
    with answering(serve()) as client:
        assert ask(client, "POST", "/api/v1/labels/batch", "other", **labels).status_code == 403
        answer = ask(client, "POST", "/api/v1/labels/batch", "mine", **labels)
    assert (answer.status_code, answer.json()[0]["author"]) == (200, "mine (x)")


def test_a_revoked_an_expired_and_a_new_token_are_known_within_a_second(serve, path, clock):
    with answering(serve()) as client:

        def status(token):
            return ask(client, "GET", "/api/v1/policy", token).status_code

        assert (status("read"), status("new")) == (200, 401)
        change(path, lambda text: without_token(text, "read"))
        add(path, "new", roles=frozenset({Role.READ}), expires_at=clock.now + 5)
        clock.now += 1
        assert (status("read"), status("new")) == (401, 200)
        clock.now += 4
        assert status("new") == 401
        path.write_text("[[tokens]]")
        clock.now += 1
        assert (status("all"), status("new"), status("plain")) == (200, 401, 200)


@pytest.mark.parametrize("role", [Role.SEND, Role.OUTCOME])
def test_a_path_for_routers_is_opened_by_its_role_alone(serve, settings, path, clock, role):
    tokens = {"api_tokens_file": path, "api_tokens": (SecretStr("plain"),)}
    access = Access(settings.model_copy(update=tokens), clock=clock, monotonic=clock)
    api = FastAPI()

    @api.post("/sent", dependencies=access.needs(role))
    async def sent() -> str:
        return "taken"

    with answering(api) as client:
        found = {token: ask(client, "POST", "/sent", token).status_code for token in (*Role, "all", "plain", "never")}
    assert found == {**dict.fromkeys([*Role, "plain"], 403), role: 200, "all": 200, "never": 401}


def test_a_guard_does_not_start_with_a_wrong_file(settings, path):
    path.write_text("[[tokens]]")
    with pytest.raises(SettingsError, match=r"tokens\.toml: line 1: 'tokens' is no key of this file"):
        Service(settings.model_copy(update={"api_tokens_file": path}), senders={})
