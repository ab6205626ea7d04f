"""Whatever fits the API's schema, and whatever does not, is answered as the schema says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from served import PORT, RUN

from and_retrieval.serve.app import application
from and_retrieval.serve.served import Served
from and_retrieval.serve.server import PageServer
from and_retrieval.store import Home

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")
pytestmark = pytest.mark.slow

KNOWN = {"run": RUN, "a": RUN, "b": "s/relu", "index": "s", "unit": "relu:1", "units": ["relu:1"], "row": 0}
"""What a caller knows: random texts would hardly ever name a run."""
EXAMPLES = 60
NOT_SAID = [checks.positive_data_acceptance]
"""A schema cannot say which runs, units and texts there are; those that there are not get an answer 400 or 404."""


@schemathesis.serializer("audio/*")
def sound(_: Any, value: Any) -> bytes:
    """A made-up sound as it is sent."""
    return value if isinstance(value, bytes) else str(value).encode()


def operations() -> dict[str, Any]:
    """`GET /api/...` -> the operation."""
    served = Served(Home(Path("nowhere")))
    schema = schemathesis.openapi.from_dict(application(served, PORT).openapi())
    served.close()
    return {operation.ok().label: operation.ok() for operation in schema.get_all_operations()}


OPERATIONS = operations()


@pytest.fixture(scope="module")
def listening(served_home: Path) -> Iterator[PageServer]:
    """A server that listens: some checks send requests of their own."""
    server = PageServer.listen(Home(served_home), RUN, port=0).start()
    yield server
    server.stop()


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_answers_as_its_schema_says(name: str, listening: PageServer) -> None:
    operation = OPERATIONS[name]

    @settings(
        max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(), known=st.sets(st.sampled_from(sorted(KNOWN))), token=st.booleans())
    def answered(case: Any, known: set[str], token: bool) -> None:
        for part in (case.query, case.path_parameters, case.body):
            if isinstance(part, dict):
                part.update({field: KNOWN[field] for field in known if field in part})
        if token:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {listening.served.token}"}
        answer = case.call(base_url=listening.url)
        case.validate_response(answer, excluded_checks=NOT_SAID)

    answered()


def test_every_route_is_in_the_schema() -> None:
    assert len(OPERATIONS) >= 27
    assert "PATCH /api/lists/{name}" in OPERATIONS
