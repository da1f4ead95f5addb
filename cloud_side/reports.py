"""What the worker tells devices of itself, retained: its profiles and its load.

All on the network thread. The ways to the broker of what it acknowledges are timed on the way.
"""

from __future__ import annotations

import time

import msgspec

from cloud_side.load import SAMPLE_S, LoadReport
from cloud_side.profiles import BundleProfiles
from cloud_side.tail import TailThread
from split_core.cost.profile import Profile, WorkerProfiles, dump
from split_core.cost.round_trip import LeastRoundTrip
from split_core.errors import LinkDown, MessageError
from split_core.node import Node
from split_core.session import Publication
from split_core.wire import records

# Bundles in one record, which is what readers take.
_MAX_PROFILES = 64
# Bundles that take turns in memory change the record with every frame, and all devices read it.
_PROFILES_INTERVAL_S = 10.0


class Reports:
    """Publishes one worker's `up/profile` and `up/load`, once it has been started."""

    def __init__(self, node: Node, tail: TailThread, profiles: BundleProfiles):
        self._node, self._tail, self._profiles = node, tail, profiles
        self._load, self._round_trip = LoadReport(), LeastRoundTrip()
        self._told: tuple[Profile, ...] = ()
        self._told_s = float("-inf")

    def start(self) -> None:
        self._node.session.call_soon(self._tick)

    @property
    def busy_ratio(self) -> float:
        """Of the last seconds. From any thread."""
        return self._load.busy_ratio

    def on_up(self) -> None:
        """A connection: nothing of what was said may be there any more."""
        self._round_trip.reset()
        self._load.renew()
        self._tell_profiles()

    def publish(self, channel: str, record: msgspec.Struct) -> None:
        """A retained record, whose way to the broker and back is timed."""
        sent_s = time.monotonic()

        def done(ok: bool) -> None:
            if ok:
                now_s = time.monotonic()
                self._round_trip.add(now_s - sent_s, now_s)

        topic = self._node.topics.worker_up(self._node.node_id, channel)
        try:
            self._node.session.publish(
                Publication(topic, records.dump(record), qos=1, retain=True), done)
        except LinkDown:
            pass                          # on connect all is published anew
        except MessageError as e:         # larger than the broker takes, or it retains nothing
            self._node.tell_once("broker", str(e))

    def _tick(self) -> None:
        now_s = time.monotonic()
        self._node.session.call_at(now_s + SAMPLE_S, self._tick)
        self._load.add(*self._tail.load(now_s), now_s)
        if self._node.is_up:
            known = self._round_trip.known
            load = self._load.due(self._round_trip.least_s if known else 0.0, now_s)
            if load is not None:
                self.publish("load", load)
            if (self._profiles.current != self._told
                    and now_s - self._told_s >= _PROFILES_INTERVAL_S):
                self._told_s = now_s
                self._tell_profiles()

    def _tell_profiles(self) -> None:
        limits = self._node.session.limits
        if limits is None:
            return
        self._told = self._profiles.current
        self.publish("profile", profiles_record(self._told, limits.chunk_bytes))


def profiles_record(profiles: tuple[Profile, ...], max_bytes: int) -> WorkerProfiles:
    """Of these, in their order, those that one publication holds: all that brokers have to
    take here is a chunk, and each device pays for the whole record."""
    chosen, left = [], max_bytes - len(records.dump(WorkerProfiles(())))
    for profile in profiles[:_MAX_PROFILES]:
        size = len(dump(profile)) + 1                 # and a comma
        if size <= left:
            chosen.append(profile)
            left -= size
    return WorkerProfiles(tuple(chosen))
