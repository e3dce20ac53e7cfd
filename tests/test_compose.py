"""The files that start Grafana with the boards in it fit each other; nothing is started here."""

import re
import subprocess
from urllib.parse import urlsplit

import pytest
import yaml

from cheapdeep_ops.resources import packaged
from tests.prometheus import BOARDS, tool

FOLDER = packaged("dashboards")
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))


def read(name):
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


COMPOSE = read("compose.yaml")
SERVICES = COMPOSE["services"]
DATA_SOURCES = read("provisioning/datasources/cheapdeep.yaml")["datasources"]


def mounts(service):
    return [tuple(each.split(":")) for each in SERVICES[service]["volumes"]]


def test_every_file_is_there_and_read_by_somebody():
    assert FILES == [
        "compose.yaml",
        "provisioning/dashboards/cheapdeep.yaml",
        "provisioning/datasources/cheapdeep.yaml",
        "services/collector.yaml",
        "services/prometheus.yaml",
        "services/tempo.yaml",
    ]
    sources = [each[0] for service in SERVICES for each in mounts(service)]
    mounted = {source.removeprefix("./") for source in sources if source.startswith("./")}
    assert all((FOLDER / source).exists() for source in mounted)
    assert {source for source in sources if not source.startswith("./")} == set(COMPOSE["volumes"])
    assert {name for name in FILES if name.startswith("services/")} <= mounted


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned_and_nothing_is_open_to_others(service):
    found = SERVICES[service]
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", found["image"])
    assert all(port.startswith("127.0.0.1:") for port in found.get("ports", []))
    assert found.get("network_mode") == "host" or found["ports"]


def test_what_is_on_the_network_of_the_host_listens_on_loopback():
    assert {name for name, each in SERVICES.items() if each.get("network_mode")} == {
        "grafana", "prometheus", "collector",
    }  # fmt: skip
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    protocols = read("services/collector.yaml")["receivers"]["otlp"]["protocols"]
    assert {urlsplit(f"//{each['endpoint']}").hostname for each in protocols.values()} == {"127.0.0.1"}


def test_grafana_finds_boards_and_data_sources():
    (provider,) = read("provisioning/dashboards/cheapdeep.yaml")["providers"]
    folders = {inside: source for source, inside, _ in mounts("grafana")[:2]}
    boards = FOLDER / folders[provider["options"]["path"]]
    assert {path.stem for path in boards.glob("*.json")} == set(BOARDS)
    assert folders["/etc/grafana/provisioning"] == "./provisioning"
    types = {each["uid"]: each["type"] for each in DATA_SOURCES}
    assert set(types.values()) == {"prometheus", "tempo"}
    (link,) = DATA_SOURCES[0]["jsonData"]["exemplarTraceIdDestinations"]
    assert types[link["datasourceUid"]] == "tempo"


def test_the_data_source_knows_how_often_is_scraped():
    scraped = read("services/prometheus.yaml")["global"]["scrape_interval"]
    assert DATA_SOURCES[0]["jsonData"]["timeInterval"] == scraped


def test_ports_meet():
    urls = {each["type"]: urlsplit(each["url"]).netloc for each in DATA_SOURCES}
    assert f"--web.listen-address={urls['prometheus']}" in SERVICES["prometheus"]["command"]
    published = dict(port.rsplit(":", 1) for port in SERVICES["tempo"]["ports"])
    tempo, exporters = read("services/tempo.yaml"), read("services/collector.yaml")["exporters"]
    assert published[urls["tempo"]] == str(tempo["server"]["http_listen_port"])
    receiver = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert receiver.endswith(f":{published[exporters['otlp/tempo']['endpoint']]}")
    assert exporters["otlphttp/prometheus"]["endpoint"] == f"http://{urls['prometheus']}/api/v1/otlp"
    assert "--web.enable-otlp-receiver" in SERVICES["prometheus"]["command"]


def test_the_collector_passes_on_all_that_routers_and_guard_send():
    config = read("services/collector.yaml")
    pipelines = config["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics", "logs"}
    for pipeline in pipelines.values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind])


def test_prometheus_accepts_its_configuration_and_scrapes_the_guards_default_address():
    command = [tool("promtool"), "check", "config", FOLDER / "services/prometheus.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = read("services/prometheus.yaml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8642"]}]
