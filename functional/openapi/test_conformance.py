"""A gateway answers as its document says, whatever the document allows or forbids.

Schemathesis makes the requests. A run takes MARCONI_OPENAPI_SECONDS (60) for each deployment; a failure prints how to
repeat each request, and the seed of all: MARCONI_OPENAPI_SEED repeats the run.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from functional.installed import require
from functional.openapi import hooks
from functional.services.gateway import Gateway, Options, merge

#: Seconds for each deployment.
SECONDS = int(os.environ.get("MARCONI_OPENAPI_SECONDS", "60"))

#: Seconds that it takes to start, to stop, and to finish a request that may wait for timeouts.
MARGIN = 120

#: All of Schemathesis' checks but those of other things: what a schema can't say makes well-formed requests wrong
#: (`positive_data_acceptance`), messages that are deleted and claimed meanwhile are no mistake, and there are no users.
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method",
    "allow_header_conformance",
)

#: Part of the operations that have to have succeeded at least once: some need others to have succeeded before.
ACCEPTED = 0.5


@pytest.mark.timeout(SECONDS + 2 * MARGIN)
def test_gateway_answers_as_its_document_says(make_options: Callable[[str], Options], tmp_path: Path) -> None:
    options = merge(
        make_options(f"openapi_{uuid.uuid4().hex[:12]}"),
        {
            "notification": {"allowed_networks": "127.0.0.1", "allowed_ports": "1-65535", "connect_timeout": 1},
            "transport": {"max_wait": 1},  # each of many requests may wait
        },
    )
    report = tmp_path / "report.json"
    seed = ["--seed", os.environ["MARCONI_OPENAPI_SEED"]] if "MARCONI_OPENAPI_SEED" in os.environ else []
    with require(lambda: Gateway(options)) as gateway:
        ran = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/v2/openapi.json", "--no-color",
                "--header", "X-Roles: admin", "--checks", ",".join(CHECKS), "--max-time", str(SECONDS), *seed,
                "--generation-with-security-parameters", "false", "--generation-database", "none", "--no-shrink",
                "--continue-on-failure", "--report", "json", "--report-json-path", str(report),
            ],
            cwd=tmp_path,
            env=dict(os.environ) | {
                "SCHEMATHESIS_HOOKS": hooks.__name__, "MARCONI_OPENAPI_POOL": f"sqlite:///{tmp_path}/pool.db",
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS + MARGIN,
        )
    assert ran.returncode == 0, ran.stdout
    done = json.loads(report.read_text())
    assert done["operations"]["tested"] == done["operations"]["total"] > 80
    accepted = {
        name for name, phases in done["valid_rates"].items() if any(rate["accepted"] for rate in phases.values())
    }
    assert len(accepted) > ACCEPTED * done["operations"]["total"], sorted(set(done["valid_rates"]) - accepted)
