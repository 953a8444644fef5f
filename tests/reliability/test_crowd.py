"""A short form of the load test `crowd`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reliability import crowd
from tests.serve.conftest import EXPORTED, FILES, serving


@pytest.mark.costly
def test_a_shutdown_answers_and_closes_keep_alive_connections() -> None:
    """Clients that never pause neither delay the shutdown nor lose a response."""
    with serving(EXPORTED / FILES[0]) as server:
        clients = crowd.Crowd(server)
        log, seconds = crowd.end(server, clients)
    assert log.failures == []
    assert len(log.answered_s) > crowd.CLIENTS
    assert seconds < 8  # the grace period is 10 s
    assert "Traceback" not in "".join(server.printed)


@pytest.mark.slow
def test_predictions_under_load_are_right_and_memory_does_not_grow() -> None:
    """10,000 requests and the latencies: python -m tests.reliability.crowd"""
    with serving(*(EXPORTED / name for name in FILES)) as server:
        clients = crowd.Crowd(server)
        clients.send(300, crowd.CLIENTS)
        log, grown = crowd.growth(server, lambda: clients.send(1_600, crowd.CLIENTS))
        assert log.failures == []
        assert len(log.answered_s) == 1_600
        assert max(grown.values()) < crowd.MAX_GROWTH_BYTES
        log, _ = crowd.growth(server, lambda: clients.overload(3, crowd.MANY))
        assert log.failures == []
        assert len(log.refused_s) > len(log.answered_s) > 0
        assert np.median(log.refused_s) < crowd.MAX_REFUSAL_S
    assert server.process.returncode == 0
