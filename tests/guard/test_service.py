import json
import logging
import math
import socket
import threading
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from cheapdeep_ops.errors import RemoteError, SettingsError, StoreError
from cheapdeep_ops.guard.actions.labels import label
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.grader_metrics import KEPT_S
from cheapdeep_ops.guard.jobs import Job
from cheapdeep_ops.guard.outages import OutageLog
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.service import Every, Service
from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import labels, policies, processes
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.telemetry import names

STORM = [0.95] * 2 + [0.5] * 8
HEADERS = {"Authorization": "Bearer s3same"}
PIN = {"threshold": 0.7, "route": "support", "author": "ann", "why": "trial"}


@pytest.fixture
def make_service(store, settings, inbox):
    services = []

    def make(*, clock=time.time, **changes):
        service = Service(settings.model_copy(update=changes), senders={"inbox": inbox}, clock=clock)
        services.append(service)
        return service

    yield make
    for service in services:
        service.store.close()


def client_of(service, settings, town=None):
    api = make_api(
        service.store,
        settings=settings,
        collector=service._collector,
        is_ready=service._missing,
        clock=town.clock if town else service._clock,
    )
    return TestClient(api, base_url="http://localhost")


@pytest.fixture
def client(make_service, settings):
    return client_of(make_service(), settings)


def test_it_is_alive_at_once_and_ready_after_its_first_evaluation(make_service, settings):
    service = make_service()
    client = client_of(service, settings)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 503
    service.guard.step(service._clock())
    assert client.get("/readyz").status_code == 200


def test_it_is_not_ready_while_another_guard_acts(make_service, settings):
    first, second = make_service(), make_service()
    first.guard.step(first._clock())
    second.guard.step(second._clock())
    assert "another guard" in client_of(second, settings).get("/readyz").json()["status"]


def test_a_guard_goes_on_with_the_file_that_took_the_place_of_its_own(tmp_path, make_service):
    service = make_service(store_url=f"sqlite:///{tmp_path}/own.db")
    service._keep_leases(service._clock())
    assert service.guard.step(service._clock())
    for path in tmp_path.glob("own.db*"):
        path.unlink()
    # It loses the leases of the old file first, and takes those of the new one.
    for _ in range(3):
        service._keep_leases(service._clock())
    found = Store(f"sqlite:///{tmp_path}/own.db")
    with found.reading() as connection:
        assert processes.running_guards(connection, since=0.0) == [service.guard.process]
    found.close()
    assert service.guard.step(service._clock())


@pytest.mark.thorough
def test_metrics_have_only_the_names_of_the_package_and_the_figures_of_the_store(town, make_service, settings):
    town.run(200, STORM, cls="invoice")
    service = make_service()
    text = client_of(service, settings, town).get("/metrics").text
    known = {value for name, value in vars(names).items() if name.startswith("FLEET_")}
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) <= known
    (calls,) = [each for each in families[names.FLEET_CALLS].samples if each.name.endswith("_total")]
    assert (calls.labels, calls.value) == ({"route": "support", "input_class": "invoice"}, 2_000)
    escalations = {
        each.labels["reason"]: each.value
        for each in families[names.FLEET_BASE_ESCALATIONS].samples
        if each.name.endswith("_total")
    }
    assert escalations["low_confidence"] == 1_600
    assert escalations["refusal"] == 0
    samples = {tuple(each.labels.values()): each.value for each in families[names.FLEET_ALERT].samples}
    assert {key for key, value in samples.items() if value} == {("EscalationStorm", "support")}
    assert samples[("RouterSilent", "*")] == 0
    thresholds = {each.labels["route"]: each.value for each in families[names.FLEET_THRESHOLD].samples}
    assert thresholds == {"*": 0.8, "support": 0.9}


def scraped(client):
    """The samples of the metrics page: values by name and labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(each.name, *sorted(each.labels.values())): each.value for family in families for each in family.samples}


def test_metrics_tell_what_is_claimed_withheld_and_spent_on_triage(town, make_service, settings):
    town.run(200, STORM)
    town.run(20, [0.85] * 3 + [0.5] * 7)
    found = scraped(client_of(make_service(), settings, town))
    decisions = town.decisions
    assert found[(f"{names.FLEET_TRIAGE_COST}_total", "none", "support")] == pytest.approx(0.0004 * len(decisions))
    assert found[(f"{names.FLEET_WITHHELD}_total", "none", "support")] == 60
    bucket = f"{names.FLEET_CONFIDENCE}_bucket"
    below = {edge: sum(each.confidence < float(edge) + 0.01 for each in decisions) for edge in ("0.79", "0.84", "0.94")}
    assert {edge: found[(bucket, edge, "support")] for edge in below} == below
    assert found[(bucket, "+Inf", "support")] == len(decisions)
    assert found[(names.FLEET_GUARDS,)] == 1


def test_metrics_tell_what_cold_caches_cost(town, make_service, settings):
    town.run(1, [0.95, 0.5])
    for usd in (0.003, 0.002):
        town.recorder.put(replace(town.decisions[-1], cold_cache_usd=usd))
    town.look()
    found = scraped(client_of(make_service(), settings, town))
    assert found[(f"{names.FLEET_COLD_CACHE}_total", "none", "support")] == pytest.approx(0.005)


def test_metrics_tell_the_evidence_of_a_storm_beside_its_limit(town, make_service, settings):
    town.run(60, STORM)
    found = scraped(client_of(make_service(), settings, town))
    storm = ("EscalationStorm", "support")
    assert found[(names.FLEET_EVIDENCE, *storm)] > found[(names.FLEET_EVIDENCE_LIMIT, *storm)] > 0
    assert (names.FLEET_EVIDENCE, "*", "RouterSilent") not in found


@pytest.mark.thorough
def test_metrics_tell_what_confidence_and_judge_are_worth_one_at_a_time(make_school, make_service, settings):
    school = make_school()
    school.teach(400, 0.2, confidences=(0.95, 0.85), wrong={0.95: 0.1, 0.85: 0.3})
    client = client_of(make_service(clock=school.clock), settings)
    assert {key[1] for key in scraped(client) if key[0] == names.FLEET_JUDGE_LABELS} == {"correct", "incorrect"}
    for truth in ("correct", "incorrect") * 30:
        with school.store.reading() as connection:
            said = dict(labels.unlabelled(connection, grader_version(settings)))
        chosen = min(each for each, verdict in said.items() if verdict == truth)
        school.do(label, call_id=chosen, verdict=truth, author="ann")
    found = [scraped(client) for _ in range(3)][-1]
    assert found[(names.FLEET_AUROC_LOW, "*")] < found[(names.FLEET_AUROC, "*")] < found[(names.FLEET_AUROC_HIGH, "*")]
    assert found[(names.FLEET_AUROC, "support")] > 0.55
    assert found[(names.FLEET_RELIABILITY_GRADES, "0.95 to 0.99", "support")] == 200
    assert found[(names.FLEET_RELIABILITY_CLAIMED, "0.85 to 0.90", "support")] == pytest.approx(0.85)
    assert (names.FLEET_JUDGE_KAPPA,) not in found, "kept for minutes: the labels came later"
    school.clock.advance(KEPT_S)
    found = scraped(client)
    assert found[(names.FLEET_JUDGE_LABELS, "incorrect")] == 30
    assert found[(names.FLEET_JUDGE_KAPPA_LOW,)] < found[(names.FLEET_JUDGE_KAPPA,)] == 1.0


@pytest.mark.thorough
def test_the_evidence_of_a_rule_stands_beside_its_alarm_line(town, make_service, settings):
    town.run(200, [0.95] * 10)
    calm = evidence_of(make_service(), settings, town)
    town.run(60, STORM)
    storm = evidence_of(make_service(), settings, town)
    line = -math.log(0.0000005)
    assert set(calm) == set(storm) == {("EscalationStorm", "support")}, "no line for rules without a sequential test"
    assert calm[("EscalationStorm", "support")][0] < 0 < line
    assert calm[("EscalationStorm", "support")][1] == pytest.approx(line)
    assert storm[("EscalationStorm", "support")][0] > line


def evidence_of(service, settings, town):
    text = client_of(service, settings, town).get("/metrics").text
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    values, limits = (
        {tuple(each.labels.values()): each.value for each in families[name]}
        for name in (names.FLEET_EVIDENCE, names.FLEET_EVIDENCE_LIMIT)
    )
    assert values.keys() == limits.keys()
    return {key: (value, limits[key]) for key, value in values.items()}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_store_out_of_reach_fails_the_scrape_instead_of_showing_zeros(make_service, settings, tmp_path):
    service = make_service()
    client = client_of(service, settings)
    service.store.close()
    (tmp_path / "store.db").write_text("this is no database any more" * 100)
    for leftover in ("store.db-wal", "store.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    assert client.get("/metrics").status_code == 503


def test_reports_are_read_without_a_token_on_loopback(client):
    for path in ("/metrics", "/api/v1/status", "/api/v1/report", "/api/v1/policy/changes", "/api/v1/incidents"):
        assert client.get(path).status_code == 200, path
    assert client.get("/openapi.json").json()["info"]["title"] == "cheapdeep_ops guard"


def test_off_loopback_reading_needs_a_token_too(make_service, settings):
    settings = Settings(store_url=settings.store_url, host="0.0.0.0", api_tokens="s3same,other")
    client = client_of(make_service(), settings)
    assert client.get("/api/v1/status").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer other"}).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_changing_needs_a_token_even_on_loopback(make_service, settings, store):
    without = client_of(make_service(), settings)
    assert without.put("/api/v1/policy/pin", json=PIN).status_code == 403
    with_tokens = client_of(make_service(), Settings(store_url=settings.store_url, api_tokens="s3same"))
    assert with_tokens.put("/api/v1/policy/pin", json=PIN).status_code == 401
    headers = {"Authorization": "Bearer s3same"}
    pinned = with_tokens.put("/api/v1/policy/pin", json=PIN, headers=headers).json()
    assert pinned["scopes"]["support"]["threshold"] == 0.7
    (change,) = with_tokens.get("/api/v1/policy/changes").json()
    assert (change["author"], change["why"], change["to_threshold"]) == ("ann", "trial", 0.7)


@pytest.mark.thorough
def test_orders_that_make_no_sense_are_refused_with_a_reason(make_service, settings):
    client = client_of(make_service(), Settings(store_url=settings.store_url, api_tokens="s3same"))
    headers = {"Authorization": "Bearer s3same"}
    for order in ({**PIN, "threshold": 1.5}, {**PIN, "why": ""}, {**PIN, "extra": 1}):
        assert client.put("/api/v1/policy/pin", json=order, headers=headers).status_code == 422
    released = client.request(
        "DELETE", "/api/v1/policy/pin", json={"route": "support", "author": "ann"}, headers=headers
    )
    assert released.status_code == 409
    assert "not pinned" in released.text


def sent(client, order):
    """The answer to an order as it is written down, so that it can be what no JSON library would write."""
    body = order if isinstance(order, bytes) else json.dumps({**PIN, **order}).encode()
    return client.put("/api/v1/policy/pin", content=body, headers=HEADERS | {"Content-Type": "application/json"})


@pytest.mark.thorough
@pytest.mark.parametrize(
    "order",
    [
        {"threshold": float("nan")},
        {"threshold": float("inf")},
        {"threshold": True},
        {"threshold": "0.7"},
        json.dumps(PIN).replace("0.7", "1e999").encode(),
        {"route": "hush\udcff"},
        {"route": "hush\0"},
        {"route": "  "},
        {"author": "  "},
        {"author": "hush\ud800"},
        {"why": "\t"},
        {"why": "hush\ud800"},
        {"why": ["hush"]},
        {"hush\ud800": 1},
        b'{"hush',
    ],
)
def test_an_order_that_cannot_be_kept_is_refused_without_being_repeated(make_service, settings, store, order):
    client = client_of(make_service(), Settings(store_url=settings.store_url, api_tokens="s3same"))
    refusal = sent(client, order)
    assert refusal.status_code == 422
    assert "hush" not in refusal.text
    assert all(set(fault) == {"loc", "msg", "type"} for fault in refusal.json()["detail"])
    with store.reading() as connection:
        assert policies.history(connection) == []


def test_author_and_reason_are_kept_without_the_space_around_them(make_service, settings):
    client = client_of(make_service(), Settings(store_url=settings.store_url, api_tokens="s3same"))
    assert sent(client, {"author": " ann ", "why": " trial\n"}).status_code == 200
    (change,) = client.get("/api/v1/policy/changes").json()
    assert (change["author"], change["why"]) == ("ann", "trial")


@pytest.mark.parametrize("last_s", ["nan", "inf", "1e300", "0"])
def test_a_period_that_no_calendar_has_is_refused(client, last_s):
    assert client.get("/api/v1/report", params={"last_s": last_s}).status_code == 422


@pytest.mark.thorough
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic czNzYW1l", "Bearer wrong"])
def test_no_credentials_never_match_even_a_blank_token(make_service, settings, authorization):
    tokens = tuple(map(SecretStr, ("", "s3same")))
    client = client_of(make_service(), settings.model_copy(update={"api_tokens": tokens}))
    headers = {} if authorization is None else {"Authorization": authorization}
    refusal = client.put("/api/v1/policy/pin", json=PIN, headers=headers)
    assert refusal.status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8642", 200),
        ("[::1]:8642", 200),
        ("testserver", 400),
        ("evil.example:8642", 400),
        ("localhost.evil.example", 400),
        ("", 400),
    ],
)
def test_a_guard_on_loopback_is_read_under_no_other_name(client, host, status):
    assert client.get("/api/v1/status", headers={"Host": host}).status_code == status


def test_off_loopback_any_name_will_do_because_reading_needs_a_token(make_service, settings):
    settings = Settings(store_url=settings.store_url, host="0.0.0.0", api_tokens="s3same")
    client = client_of(make_service(), settings)
    assert client.get("/api/v1/status", headers=HEADERS | {"Host": "guard.example"}).status_code == 200


def test_the_receipt_counts_all_changes_in_its_period_that_came_into_force(store, settings):
    def work(connection):
        book = blank_book()
        for at in range(120):
            pin = policies.PolicyEdit(scope="support", act=PolicyAct.PIN, threshold=at / 200, author="ann", why="trial")
            book = policies.apply(connection, book, pin, at=float(at))
            raised = policies.PolicyEdit(scope="support", act=PolicyAct.RAISE, cause="EscalationStorm")
            policies.write(connection, policies.step_of(book, raised, applied=False), at=float(at))

    store.transact(work)
    assert receipt(store, settings, since=10, until=110)["policy_changes"] == 100


def test_the_scheduler_runs_the_jobs_and_counts_how_they_ended(make_service, inbox):
    service = make_service(evaluate_every_s=0.05)
    stepped = threading.Event()
    fails = iter([True])
    step = service.guard.step

    def sometimes(now):
        if next(fails, False):
            raise StoreError("the disk is full")
        step(now)
        stepped.set()

    service.guard.step = sometimes
    service._scheduler.remove_all_jobs()
    service._add_job(service._scheduler, "evaluate", service.guard.step, 0.05)
    service.start()
    assert stepped.wait(60)
    service.stop()
    jobs = {each: count for each, count in service._jobs.items() if each[0] == "evaluate"}
    assert jobs[("evaluate", "failed")] == 1
    assert jobs[("evaluate", "done")] >= 1


def test_late_runs_are_made_up_for_and_never_skipped(make_service):
    service = make_service()
    service._scheduler.start(paused=True)
    assert all(job.misfire_grace_time is None and job.coalesce for job in service._scheduler.get_jobs())
    service._scheduler.shutdown()


THEN = datetime(2026, 3, 1, tzinfo=UTC)


def due(now, *, next_run=THEN, every=timedelta(seconds=1)):
    """What APScheduler makes of a job that was to run at `next_run` where the clock shows `now`: its runs, the next."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    job = scheduler.add_job(print, Every(every, first=every), next_run_time=next_run)
    runs = job._get_run_times(now)
    following = job.trigger.get_next_fire_time(runs[-1] if runs else next_run, now)
    scheduler.shutdown()
    return len(runs), following - now


@pytest.mark.parametrize(
    ("late", "ahead"),
    [
        (timedelta(0), 1.0),
        (timedelta(seconds=0.25), 0.75),
        (timedelta(seconds=1), 1.0),
        (timedelta(days=60), 1.0),
        (datetime(2100, 1, 1, tzinfo=UTC) - THEN, 1.0),
    ],
)
def test_a_clock_that_jumps_forward_makes_one_run_and_no_list_of_missed_ones(late, ahead):
    tracemalloc.start()
    found = due(THEN + late)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == (1, timedelta(seconds=ahead))
    assert peak < 1_000_000


def test_a_clock_that_is_set_back_plans_no_run_further_ahead_than_one_interval():
    now = THEN - timedelta(days=60)
    assert Every(timedelta(seconds=1), first=timedelta(0)).get_next_fire_time(THEN, now) == now + timedelta(seconds=1)


def test_runs_that_are_skipped_are_counted_and_said_once_by_name_for_each_episode(make_service, caplog):
    """Each round holds one run until five more have come; a run that nothing disturbs ends the episode."""
    runs, held, going_on = Counter(), threading.Event(), threading.Event()

    def work():
        going_on.set()
        held.wait(60)

    job = Job("evaluate", work, every_s=5, runs=runs, outages=OutageLog())
    with caplog.at_level("INFO"):
        for _ in range(2):
            held.clear()
            going_on.clear()
            thread = threading.Thread(target=job)
            thread.start()
            assert going_on.wait(60)
            for _ in range(5):
                job()
            held.set()
            thread.join()
            job()
            job()
    assert runs == {("evaluate", "done"): 6, ("evaluate", "skipped"): 10, ("evaluate", "failed"): 0,
                    ("evaluate", "rescheduled"): 0}  # fmt: skip
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    episode = [
        ("INFO", "the job evaluate takes longer than 5 s: runs are skipped until it keeps up"),
        ("INFO", "the job evaluate keeps up again; 5 runs were skipped"),
    ]
    assert said == 2 * episode


def test_a_scheduler_whose_jobs_are_late_says_nothing_of_its_own(make_service, caplog):
    service = make_service(evaluate_every_s=0.05)
    skipped, going_on = threading.Event(), threading.Event()

    def work(_now):
        going_on.set()
        skipped.wait(60)

    service._scheduler.remove_all_jobs()
    service._add_job(service._scheduler, "evaluate", work, 0.01)
    with caplog.at_level("INFO"):
        service.start()
        assert going_on.wait(60)
        while service._jobs[("evaluate", "skipped")] < 20:
            threading.Event().wait(0.01)
        skipped.set()
        service.stop()
    loud = [record for record in caplog.records if record.levelno > logging.INFO]
    assert loud == []
    assert sum("runs are skipped" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("error", "has_traceback"), [(RemoteError("the API is away"), False), (ValueError("odd"), True)]
)
def test_a_job_that_fails_again_and_again_is_said_once(caplog, error, has_traceback):
    def work():
        raise error

    job = Job("deliver", work, every_s=1, runs=Counter(), outages=OutageLog())
    for _ in range(100):
        job()
    (record,) = caplog.records
    assert (record.levelname, bool(record.exc_info)) == ("ERROR", has_traceback)
    assert "the job deliver failed" in record.getMessage()


@pytest.mark.parametrize("lasts_s", [1, 60, 3_600, 3 * 86_400])
def test_an_outage_of_the_store_is_said_in_ten_lines_at_most(caplog, lasts_s):
    """Every second, three jobs fail, in six ways that alternate; the details differ each time."""
    now = [0.0]
    outages = OutageLog(lambda: now[0])
    ways = [f"the store postgresql://h/d {way}" for way in ("is read-only", "failed", "does not answer", "x", "y", "z")]
    with caplog.at_level("INFO"):
        while now[0] < lasts_s:
            for job in range(3):
                outages.failed(StoreError(f"{ways[int(now[0]) % 6]}: attempt {now[0]} of job {job}"))
            now[0] += 1 if lasts_s < 10_000 else 61
        outages.worked()
        outages.worked()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) <= 10
    assert said[0].startswith("the store postgresql://h/d is read-only: attempt 0.0")
    assert said[-1].startswith("the store works again after")
    assert sum(way in line for line in said[:-1] for way in ways[:4]) >= min(lasts_s, 4)
    caplog.clear()
    outages.failed(StoreError("the store failed: again"))
    assert len(caplog.records) == 1


def test_a_port_that_is_taken_is_said(make_service):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = make_service(port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="CHEAPDEEP_PORT"):
            service.serve()


def test_a_guard_that_was_stopped_does_not_pass_as_running(make_service, settings, store):
    service = make_service()
    service.guard.step(service._clock())
    assert status(store, settings, service._clock())["watchers"]["guards"] == 1
    service.guard.close()
    assert status(store, settings, service._clock())["watchers"]["guards"] == 0


def test_changes_and_deliveries_are_logged_once_they_are_committed(town, caplog):
    with caplog.at_level("INFO", logger="cheapdeep_ops"):
        town.run(200, STORM)
    assert "raise of support by EscalationStorm: 0.8 -> 0.9" in caplog.text
    assert "delivered to inbox: EscalationStorm firing" in caplog.text


# People check the judge


def test_content_to_be_labelled_needs_a_token_and_the_figures_do_not(make_service, settings):
    open_to_all = client_of(make_service(), settings)
    assert open_to_all.get("/api/v1/review").json()["labels"] == 0
    assert open_to_all.get("/api/v1/review/next").status_code == 403
    client = client_of(make_service(), Settings(store_url=settings.store_url, api_tokens="s3same"))
    assert client.get("/api/v1/review/next").status_code == 401
    assert client.get("/api/v1/review/next", headers=HEADERS).json() is None


def test_a_label_of_what_nobody_graded_or_without_a_verdict_is_refused(make_service, settings):
    client = client_of(make_service(), Settings(store_url=settings.store_url, api_tokens="s3same"))
    order = {"call_id": "nosuch", "verdict": "correct", "author": "ann"}
    assert client.post("/api/v1/labels", json=order).status_code == 401
    refused = client.post("/api/v1/labels", json=order, headers=HEADERS)
    assert (refused.status_code, "nosuch" in refused.text) == (409, True)
    assert client.post("/api/v1/labels", json={**order, "verdict": "maybe"}, headers=HEADERS).status_code == 422
