"""Numbers for Prometheus: the one door to its client, with a registry of its own.

What happens is counted as it happens (`counter`, `histogram`); what simply is, is read when
somebody looks (`read`). Labels take values from closed lists, or from lists with a bound that
the owner keeps: a peer cannot make a series by naming something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from split_core.errors import ConfigError

try:
    import prometheus_client
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
except ImportError:                  # an extra: `available` says so
    prometheus_client = None

# A kernel for a tiny model takes 0.1 ms, a frame over a bad link seconds; a factor of about two
# and a half between neighbours keeps a quantile's error below that of what is measured.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# One class index, and half of a picture of 1 MB.
BYTES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def available() -> bool:
    """Whether the client is installed."""
    return prometheus_client is not None


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as read now: ``samples`` are label values and the number."""

    kind: str                        # "gauge" or "counter"
    name: str                        # without _total, which counters get
    help: str
    samples: tuple[tuple[tuple[str, ...], float], ...]
    labels: tuple[str, ...] = ()


def gauge(name: str, help: str, value: float | None) -> Family:
    """A number without labels; a series without samples where there is none."""
    return Family("gauge", name, help, () if value is None else (((), float(value)),))


def counter(name: str, help: str, value: float) -> Family:
    return Family("counter", name, help, (((), float(value)),))


class Metrics:
    """One program's metrics. Raises ConfigError where the client is missing."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self):
        if prometheus_client is None:
            raise ConfigError("metrics need the package prometheus-client: install"
                              " edge-agent[metrics]")
        # A second series for every counter, which says when it was made: process start says it.
        prometheus_client.disable_created_metrics()
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)

    def counter(self, name: str, help: str, label: str | None = None,
                values: Iterable[str] = ()) -> dict[str, Callable[[float], None]]:
        """What adds to a counter, by the label's value; all of them are there from the start,
        at zero. Without a label the only key is the empty string."""
        made = prometheus_client.Counter(name, help, [label] if label else [],
                                         registry=self._registry)
        if label is None:
            return {"": made.inc}
        return {v: made.labels(v).inc for v in values}

    def histogram(self, name: str, help: str, label: str | None = None,
                  values: Iterable[str] = (), buckets: tuple[float, ...] = SECONDS,
                  ) -> dict[str, Callable[[float], None]]:
        """What takes one observation, by the label's value."""
        made = prometheus_client.Histogram(name, help, [label] if label else [],
                                           registry=self._registry, buckets=buckets)
        if label is None:
            return {"": made.observe}
        return {v: made.labels(v).observe for v in values}

    def read(self, reader: Callable[[], Iterable[Family]]) -> None:
        """Ask ``reader`` whenever somebody looks."""
        self._registry.register(_Collector(reader))

    def render(self) -> bytes:
        """All of it in the text format."""
        return prometheus_client.generate_latest(self._registry)


class _Collector:
    """A reader as the client wants it."""

    def __init__(self, reader: Callable[[], Iterable[Family]]):
        self._reader = reader

    def collect(self):
        for family in self._reader():
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            made = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.samples:
                made.add_metric(labels, value)
            yield made


def session_families(prefix: str, is_up: bool, stats) -> list[Family]:
    """What both programs say of their connection to the broker (`SessionStats`)."""
    def count(name: str, help: str, value: int) -> Family:
        return counter(f"{prefix}_broker_{name}", help, value)

    return [
        gauge(f"{prefix}_broker_up", "1 while connected to the broker", is_up),
        count("connects", "Connections made to the broker", stats.connects),
        count("losses", "Connections to the broker that were lost", stats.losses),
        count("failed_attempts", "Attempts to connect that failed", stats.failed_attempts),
        count("messages_received", "MQTT messages received", stats.messages_in),
        count("messages_published", "MQTT messages published", stats.publishes),
        count("publishes_refused", "Publications refused: too large, no connection, or by the"
              " broker", stats.publishes_refused),
        count("subscriptions_refused", "Subscriptions that the broker refused",
              stats.subscriptions_refused),
        count("callback_errors", "Faults of ours in callbacks; anything but 0 is a bug",
              stats.callback_errors),
    ]
