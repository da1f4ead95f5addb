"""What a decision is made from: everything measured, at one moment, as plain values.

A `DeviceState` goes into the journal as JSON and comes back exactly, which is what makes a
decision repeatable on a laptop. None is unknown, and unknown is never taken for healthy. Pure.
"""

from __future__ import annotations

import msgspec

from edge_agent.belief.transfers import Scenario


class Coding(msgspec.Struct, frozen=True):
    """What a candidate's boundary costs, as now believed."""

    nbytes: float                    # mean message at the rung asked for, header and all
    coarsest_bytes: float            # the same at the coarsest the plan allows
    encode_s: float                  # on the device


class WorkerState(msgspec.Struct, frozen=True):
    """One worker that could be sent to."""

    worker: str
    queue_s: float                   # how long a frame waits there
    service_s: tuple[float, ...]     # decode, tail and encode, cut by cut
    extra_s: float = 0.0             # its round trip above the least one


class Energy(msgspec.Struct, frozen=True):
    """What this board draws (`belief.energy`)."""

    j_per_cpu_s: float
    j_per_byte: float
    base_w: float


class Battery(msgspec.Struct, frozen=True):
    """What there is to live on. None: unknown."""

    left_wh: float | None = None
    mains: bool | None = None


class DeviceState(msgspec.Struct, frozen=True):
    """One moment. Times are monotonic and mean nothing to another machine."""

    now_s: float
    deadline_s: float                # what a frame may take
    frame_rate: float                # frames a second that come
    segment_s: tuple[float, ...]     # mean time of each segment here, slow-down included
    careful_s: tuple[float, ...]     # the same as a deadline wants it
    codings: tuple[Coding, ...]      # in the order of the options (`candidates`)
    link_up: bool
    rtt_s: float
    scenarios: tuple[Scenario, ...]
    waiting_bytes: int               # of ours, not answered for ...
    waiting_s: float                 # ... for which the link has had this long by the next frame
    wait_s: float                    # until the interpreter is free for the next frame
    workers: tuple[WorkerState, ...]
    energy: Energy
    battery: Battery = Battery()
    until_s: float | None = None     # how long the battery has to last
    budget_bytes: float | None = None        # that may still be sent ...
    budget_s: float | None = None            # ... in this time
    temperature_c: float | None = None
    throttled: bool | None = None
