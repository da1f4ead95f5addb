"""Reports that another program publishes to an MQTT topic: the provider `mqtt`.

The last one counts until it is too old; one that is no report makes everything unknown. Age is
counted from arrival, so a retained message is young again after every reconnect.
"""

from __future__ import annotations

from edge_agent.sensors.health import Health
from edge_agent.sensors.report import parse_report
from split_core.errors import MessageError


class TopicReports:
    """`push` on the network thread, `read` on the monitor's."""

    name = "mqtt"

    def __init__(self, *, max_age_s: float):
        self._max_age_s = max_age_s
        self._last: tuple[float, Health] | None = None   # replaced whole, so it needs no lock
        self.refused = 0                                 # messages that were no report

    def push(self, payload: bytes, now_s: float) -> None:
        try:
            self._last = now_s, parse_report(payload, self.name)
        except MessageError:
            self.refused += 1
            self._last = None

    def take_over(self, other: TopicReports) -> None:
        """Go on from what another has heard, unless more has been heard here."""
        if self._last is None:
            self._last = other._last

    def read(self, now_s: float) -> Health:
        last = self._last
        return last[1] if last and now_s - last[0] <= self._max_age_s else Health()
