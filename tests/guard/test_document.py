"""Schemathesis, which is not ours, against the API: no answer that the document does not name, and no failure."""

import os
import subprocess

import pytest

from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.senders import Senders
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from tests.guards import tokens_file

from .test_doors import LONG, serving

pytestmark = pytest.mark.thorough
TOOL = os.environ.get("SCHEMATHESIS")
# Some conditions no schema can say, such as a period that begins before it ends.
OPTIONS = ["--phases", "coverage", "--seed", "1", "--no-color", "--exclude-checks", "positive_data_acceptance"]


class NoMetrics:
    def collect(self):
        return []


@pytest.mark.skipif(TOOL is None, reason="SCHEMATHESIS does not name the program; .ci/run installs it")
@pytest.mark.parametrize(("host", "has_token"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_the_api_answers_as_its_document_says(tmp_path, host, has_token):
    url = f"sqlite:///{tmp_path}/store.db"
    tokens = tokens_file(tmp_path, "read", "act", "content", "send", "outcome", token=LONG)
    settings = Settings(store_url=url, host=host, api_tokens_file=tokens)
    store = Store(url)
    migrate(store)
    served = Senders(url, settings, lambda: 1.8e9)
    parts = {"settings": settings, "collector": NoMetrics(), "is_ready": str, "served": served}
    headers = ["-H", f"Authorization: Bearer {LONG}"] if has_token else []
    try:
        with serving(make_api(store, clock=lambda: 1.8e9, **parts)) as port:
            command = [TOOL, "run", f"http://127.0.0.1:{port}/openapi.json", *OPTIONS, *headers]
            ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)
    finally:
        served.close()
        store.close()
    assert ran.returncode == 0, ran.stdout[-5_000:]
