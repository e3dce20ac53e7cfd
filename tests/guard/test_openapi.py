import re

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.senders import Senders
from cheapdeep_ops.guard.http.version import API_VERSION
from cheapdeep_ops.recorder.wire import VERSION_HEADER
from cheapdeep_ops.store import incidents
from tests.guards import tokens_file

STORM = [0.95] * 2 + [0.5] * 8
JSON = "application/json"
HEADERS = {"Authorization": "Bearer s3same"}
BY = {"author": "ann", "why": "trial"}
ORDERS = (
    ("PUT", "/api/v1/policy/pin", {"threshold": 0.7, "route": "support", **BY}),
    ("DELETE", "/api/v1/policy/pin", {"route": "support", **BY}),
    ("POST", "/api/v1/normal/relearn", {"route": "support", **BY}),
    ("POST", "/api/v1/grader/accept", BY),
    ("POST", "/api/v1/outcomes", {"call_id": "call-1", "outcome": "wrong", "source": "form"}),
    (
        "POST",
        "/api/v1/outcomes/batch",
        {"outcomes": [{"call_id": "never", "outcome": "right", "source": "form", "route": "support", "at": 1.0}]},
    ),
    ("POST", "/api/v1/labels", {"call_id": "call-1", "verdict": "correct", "author": "ann"}),
    (
        "POST",
        "/api/v1/labels/batch",
        {"labels": [{"call_id": f"call-{number}", "verdict": "incorrect"} for number in (1, 2)], "author": "bob"},
    ),
    ("POST", "/api/v1/incidents/1/ack", BY),
    ("POST", "/api/v1/silences", {"rule": "EscalationStorm", "for_s": 60.0, **BY}),
    ("POST", "/api/v1/silences", {"rule": "InertGate", "route": "support", "for_s": 60.0, **BY}),
    ("DELETE", "/api/v1/silences/1", BY),
    ("POST", "/api/v1/undelivered/1/drop", BY),
    ("POST", "/api/v1/undelivered/2/retry", BY),
    ("PUT", "/api/v1/routes", {"route": "chat", "input_class": "fax", "author": "ann"}),
    ("DELETE", "/api/v1/routes", {"route": "chat", "input_class": "fax", "author": "ann"}),
)


@pytest.fixture
def engine():
    return "sqlite"


def api_of(school, **changes):
    settings = school.settings.model_copy(update={"api_tokens": (SecretStr("s3same"),), **changes})
    return make_api(school.store, settings=settings, collector=None, is_ready=str, clock=school.clock)


def whole_api_of(school, **changes):
    """With the paths for routers, which only a server has."""
    settings = school.settings.model_copy(update={"api_tokens": (SecretStr("s3same"),), **changes})
    served = Senders(settings.store_url, settings, school.clock)
    return make_api(school.store, settings=settings, collector=None, is_ready=str, clock=school.clock, served=served)


def client_of(api):
    return TestClient(api, base_url="http://localhost", headers=HEADERS)


def operations(api):
    return [
        (path, method, operation)
        for path, methods in api.openapi()["paths"].items()
        for method, operation in methods.items()
    ]


def documented(api):
    """What each operation answers, as a JSON schema, by method and path."""
    components = api.openapi()["components"]
    return {
        (method.upper(), path): {"components": components, **operation["responses"]["200"]["content"][JSON]["schema"]}
        for path, method, operation in operations(api)
        if JSON in operation["responses"]["200"]["content"]
    }


def test_every_path_says_what_it_is_for_what_it_answers_and_what_it_refuses(school):
    api = whole_api_of(school)
    found = operations(api)
    tags = {each["name"] for each in api.openapi()["tags"]}
    for path, method, operation in found:
        assert operation["summary"], path
        assert operation["description"], path
        assert set(operation["tags"]) <= tags, path
        (answer,) = operation["responses"]["200"]["content"].values()
        assert "$ref" in str(answer["schema"]) or path == "/metrics", path
        assert {"401", "403", "404", "409", "503"} <= set(operation["responses"]) or method == "get", path
    assert len({operation["operationId"] for *_, operation in found}) == len(found) > 20
    assert api.openapi()["info"]["version"] == API_VERSION


def test_what_needs_a_token_is_said_and_off_loopback_that_is_all_but_health(school):
    def open_to_all(**changes):
        return {
            path for path, _, operation in operations(whole_api_of(school, **changes)) if not operation.get("security")
        }

    near = open_to_all()
    assert {"/metrics", "/api/v1/status", "/api/v1/incidents"} <= near
    assert (
        not {"/api/v1/policy/pin", "/api/v1/review/next", "/api/v1/labels", "/api/v1/incidents/{incident_id}/ack"}
        & near
    )
    assert open_to_all(host="0.0.0.0") == {"/healthz", "/readyz"}


@pytest.mark.thorough
def test_real_answers_have_the_keys_that_are_documented_and_no_others(school, tmp_path):
    school.inbox.failures += [DeliveryError("invalid_blocks")] * 10_000
    message = {"incident_id": None, "kind": "test", "payload": {"kind": "test"}, "at": school.clock()}
    for _ in range(3):
        school.store.transact(lambda connection: incidents.enqueue(connection, **message))
    school.teach(400, 0.1)
    school.run(120, STORM, cls="invoice")
    api = api_of(school, api_tokens=(), api_tokens_file=tokens_file(tmp_path, "read", "act", "content", "outcome"))
    client, known = client_of(api), documented(api)
    reads = [("GET", path.format(incident_id=1), None) for method, path in known if method == "GET"]
    asked = []
    for method, path, body in (*ORDERS, *reads):
        answer = client.request(method, path, json=body)
        assert answer.status_code == 200, (path, answer.text)
        pattern = path.replace("silences/1", "silences/{silence_id}").replace("incidents/1", "incidents/{incident_id}")
        pattern = re.sub(r"undelivered/\d", "undelivered/{message_id}", pattern)
        Draft202012Validator(known[method, pattern]).validate(answer.json())
        asked.append((method, pattern))
        assert answer.text not in ("[]", "{}", "null"), f"{path}: nothing was checked"
    assert set(asked) == set(known)


def test_a_key_that_nobody_has_documented_would_be_noticed(school):
    api = api_of(school)
    found = client_of(api).get("/api/v1/policy").json()
    check = Draft202012Validator(documented(api)["GET", "/api/v1/policy"])
    assert check.is_valid(found)
    assert not check.is_valid({**found, "more": 1})
    assert not check.is_valid({name: value for name, value in found.items() if name != "base"})


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_of_documentation_would_load_scripts_from_elsewhere(school, path):
    assert client_of(api_of(school)).get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/api/v1/status", "/api/v1/incidents/99", "/api/v1/nosuch", "/api/v1/report?last_s=0"]
)
def test_every_answer_has_the_version_refusals_too(school, path):
    client = client_of(api_of(school))
    assert client.get(f"/api/v1/{path}").headers[VERSION_HEADER] == API_VERSION
    assert VERSION_HEADER not in client.get("/healthz").headers


def test_answers_to_be_labelled_are_passed_over_as_asked(school):
    school.teach(40, 0.5)
    client, seen = client_of(api_of(school)), []
    for _ in range(3):
        seen.append(client.get("/api/v1/review/next", params={"skip": seen}).json()["call_id"])
    assert len(set(seen)) == 3
    assert client.get("/api/v1/review/next", params={"skip": ["x"] * 201}).status_code == 422
