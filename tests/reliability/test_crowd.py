"""The bounded form of `crowd`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reliability import crowd
from tests.serve.conftest import EXPORTED, FILES, serving


def test_at_the_end_kept_connections_are_answered_and_closed() -> None:
    """Clients that never stop asking neither hold the end up nor are cut off."""
    with serving(EXPORTED / FILES[0]) as server:
        clients = crowd.Crowd(server)
        log, seconds = crowd.end(server, clients)
    assert log.failures == []
    assert len(log.answered_s) > crowd.CLIENTS
    assert seconds < 8  # the time it would grant them is 10 s
    assert "Traceback" not in "".join(server.printed)


@pytest.mark.slow
def test_a_crowd_is_answered_right_and_nothing_grows() -> None:
    """10,000 requests and the latencies: python -m tests.reliability.crowd"""
    with serving(*(EXPORTED / name for name in FILES)) as server:
        clients = crowd.Crowd(server)
        clients.ask(300, crowd.CLIENTS)
        log, grown = crowd.growth(server, lambda: clients.ask(1_600, crowd.CLIENTS))
        assert log.failures == []
        assert len(log.answered_s) == 1_600
        assert max(grown.values()) < crowd.MAX_GROWTH_BYTES
        log, _ = crowd.growth(server, lambda: clients.press(3, crowd.MANY))
        assert log.failures == []
        assert len(log.refused_s) > len(log.answered_s) > 0
        assert np.median(log.refused_s) < crowd.MAX_REFUSAL_S
    assert server.process.returncode == 0
