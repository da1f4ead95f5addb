"""Tails: decode, run, encode the outputs; one frame at a time.

Interpreters and coders are used by one thread at a time, as ``_busy`` says. That is the tail
thread, but for a frame that comes when nothing waits and takes a moment only: the network
thread serves it at once, and spares it two hand-overs. A bundle is loaded when its first frame
comes up, and the least recently used leaves when too many are. One that comes without a profile
is measured before devices are told of it, or else when no frame has come for a while.

A frame in two layers whose answer by the first is not sure enough is asked about once more:
it waits in `Bases` with that answer, and comes back as a job when its refinement arrives.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from cloud_side.admission import Admission, Job, Turned
from cloud_side.bases import Base, Bases, RefinementJob, give_up_s
from cloud_side.profiles import BundleProfiles
from cloud_side.store import BundleStore
from split_core.errors import BundleError, MessageError, SplitError
from split_core.model.bundle import Bundle, Unreadable
from split_core.model.certainty import certainty
from split_core.model.runner import Runner
from split_core.tensors import to_real
from split_core.wire.messages import (
    Codec, Reason, Refinement, Result, StageTimes, clamp_us,
)
from split_core.wire.payload import Coder, Layers
from split_core.wire.rungs import RAW

_log = logging.getLogger(__name__)
# What the network thread may stop for. A hand-over to the tail thread and back costs 0.1 ms
# (bench/results/round_trip.json); beyond some 2 ms that no longer matters, and other senders
# would notice.
_AT_ONCE_S = 0.002
# How often a bundle in use is marked as used, for the store to know.
_TOUCH_S = 600.0
_MAX_UNFIT = 1000
# A disk that fails, or memory that is short, is given so long.
_AGAIN_S = 60.0
# Measuring can only be interrupted between two runs of a model: where frames come more often
# than this, one of them would have to wait for that, and most attempts would be for nothing.
_QUIET_S = 5.0
# What a timer that is due is looked at again after, while another thread serves.
_LOOK_AGAIN_S = 0.1


@dataclass(slots=True)
class _Loaded:
    """A bundle in memory. ``touched_s``: when its file was last marked as used."""

    runner: Runner
    coder: Coder
    touched_s: float


@dataclass(frozen=True, slots=True)
class TailGlance:
    """The tails at one moment; see `WorkerGlance`."""

    loading: bool
    queued: int
    wait_s: float
    busy_s: float
    unsure: int
    models: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A base layer, and how sure the answer is that it gave."""

    layers: Layers
    margin: float


class TailThread:
    """Runs tails one after another.

    ``on_result(job, result)``, ``on_turned(turned, detail)`` and ``on_unsure(base, margin)``,
    which is to ask for a refinement, are called on this thread or the network thread.
    """

    def __init__(self, store: BundleStore, admission: Admission, profiles: BundleProfiles, *,
                 runtime: str | None, threads: int, max_loaded: int,
                 on_result: Callable[[Job, Result], None],
                 on_turned: Callable[[Turned, str], None],
                 on_unsure: Callable[[Base, float], None],
                 on_loaded: Callable[[], None],
                 on_fatal: Callable[[BaseException], None]):
        self._store, self._admission, self._profiles = store, admission, profiles
        self._runtime, self._threads, self._max_loaded = runtime, threads, max_loaded
        self._on_result, self._on_turned = on_result, on_turned
        self._on_unsure, self._on_loaded, self._on_fatal = on_unsure, on_loaded, on_fatal
        self._bases = Bases()
        self._loaded: OrderedDict[bytes, _Loaded] = OrderedDict()
        # What is in memory, replaced whole: others read it.
        self._models: tuple[tuple[str, str], ...] = ()
        self._to_load: set[bytes] = set()
        self._loading = False
        self._told: set[str] = set()
        # Bundles that cannot run here, and why: not offered to devices, nor fetched again.
        self.unfit: dict[bytes, str] = {}
        # What could not be loaded for want of something else: not before, and why.
        self._failed: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._wake = threading.Condition()
        self._stopping = self._busy = False
        # Moves whenever the thread goes round, or looks up while it measures: what a watchdog
        # looks at.
        self.turns = 0
        self._offered_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def offer(self, job: Job, now_s: float) -> Turned | None:
        """Serve a job, or queue it, or say why not. For the network thread."""
        with self._wake:
            self._offered_s = now_s
            at_once = self._is_quick(job)
            turned = self._admission.offer(job, now_s)
            if turned is not None:
                return turned
            if not at_once:
                self._wake.notify()
                return None
            self._admission.take(now_s)
            self._busy = True
        try:
            self._serve(job)
        except Exception as e:  # as on the tail thread; the network thread would only count it
            self._on_fatal(e)
        self._done()
        return None

    def refine(self, sender: str, refinement: Refinement, first_s: float, now_s: float) -> bool:
        """Serve the second pass of a frame, or queue it; False if none waits for this. Where
        there is no time for it the first answer goes out. For the network thread."""
        with self._wake:
            base = self._bases.take(sender, refinement.session, refinement.frame_id)
        if base is None:
            return False
        turned = self.offer(RefinementJob(sender, base.job.frame, first_s, now_s, base,
                                          refinement), now_s)
        if turned is not None:
            self._turn(turned, "")
        return True

    def load(self, now_s: float) -> tuple[float, float]:
        """How long a frame would wait now, and the time spent on jobs since the start. From any
        thread."""
        with self._wake:
            return self._admission.wait_s(now_s), self._admission.busy_s(now_s)

    def glance(self, now_s: float) -> TailGlance:
        """From any thread."""
        with self._wake:
            return TailGlance(
                self._loading or bool(self._to_load), len(self._admission),
                self._admission.wait_s(now_s), self._admission.busy_s(now_s), len(self._bases),
                self._models)

    @property
    def is_alive(self) -> bool:
        """Whether the tail thread runs; for a watchdog."""
        return self._thread.is_alive()

    def poke(self) -> None:
        """Make the thread go round, if it can."""
        with self._wake:
            self._wake.notify_all()

    def reconfigure(self, *, max_queue: int, max_loaded: int) -> None:
        """Other bounds, from the next frame and bundle on."""
        with self._wake:
            self._admission.max_queue, self._max_loaded = max_queue, max_loaded

    def give_up_waiting(self) -> None:
        """Send the answers of frames whose refinement did not come. From any thread."""
        with self._wake:
            due = self._bases.take_due(time.monotonic())
        for base in due:
            self._on_result(base.job, base.result)

    def forget_waiting(self) -> None:
        """The link is down: nobody will refine what waits, or take its answer."""
        with self._wake:
            self._bases.clear()

    def _is_quick(self, job: Job) -> bool:
        expected_s = self._admission.expected_s(job)
        return (not self._busy and not len(self._admission) and not self._to_load
                and job.frame.bundle_id in self._loaded
                and expected_s is not None and expected_s < _AT_ONCE_S)

    def _done(self) -> None:
        with self._wake:
            self._busy = False
            self._wake.notify()

    def preload(self, digest: bytes) -> None:
        """Load a bundle before its first frame comes."""
        with self._wake:
            self._to_load.add(digest)
            self._wake.notify()

    def _run(self) -> None:
        try:
            while self._step():
                self._done()
        except BaseException as e:  # a thread that dies takes the process with it, loudly
            self._on_fatal(e)

    def _step(self) -> bool:
        """Wait for work and do it; False once stopped."""
        with self._wake:
            self.turns += 1
            while not self._has_work():
                self._wake.wait(self._quiet_in_s())
                self.turns += 1
            if self._stopping:
                return False
            self._busy = True
            preload = self._to_load.pop() if self._to_load else None
            self._loading = preload is not None
            quiet = not preload and not len(self._admission)
            job, late = (None, []) if preload else self._admission.take(time.monotonic())
        if preload:
            self._preload(preload)
        elif quiet:
            self._profiles.measure_one(self._is_wanted)
        for turned in late:
            self._turn(turned, "budget used up while waiting")
        if job is not None:
            self._serve(job)
        return True

    def _preload(self, digest: bytes) -> None:
        with contextlib.suppress(SplitError):         # said and remembered where it happened
            self._get(digest)
        # Before devices are told: their frames would interrupt it, again and again.
        self._profiles.measure_one(self._is_wanted)
        self._on_loaded()
        self._loading = False

    def _has_work(self) -> bool:
        return self._stopping or not self._busy and bool(
            self._to_load or len(self._admission) or self._is_quiet())

    def _is_quiet(self) -> bool:
        """Whether it is time to measure a bundle that frames kept from being measured."""
        return (self._profiles.missing > 0
                and time.monotonic() - self._offered_s >= _QUIET_S)

    def _quiet_in_s(self) -> float | None:
        if not self._profiles.missing:
            return None
        return max(_LOOK_AGAIN_S, self._offered_s + _QUIET_S - time.monotonic())

    def _is_wanted(self) -> bool:
        """Whether something waits for the thread that measures."""
        with self._wake:
            self.turns += 1
            return self._stopping or bool(self._to_load or len(self._admission))

    def _serve(self, job: Job) -> None:
        taken_s = time.monotonic()
        try:
            with self._under_way():
                result, doubt = self._answer(job)
        except MessageError as e:
            self._turn(Turned(job, Reason.INVALID, 0.0), str(e))
        except SplitError as e:
            self._turn(Turned(job, Reason.FAILED, 0.0), str(e))
        except Exception as e:  # one frame's, or one model's; the others must go on
            if repr(e) not in self._told and len(self._told) < _MAX_UNFIT:
                self._told.add(repr(e))
                _log.exception("event=tail-failed sender=%s", job.sender)
            self._turn(Turned(job, Reason.FAILED, 0.0), f"{type(e).__name__}: {e}")
        else:
            self._admission.on_served(job, time.monotonic() - taken_s)
            if doubt is None or not self._wait_for_more(job, result, doubt):
                self._on_result(job, result)

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """While a job is; what its end sets off finds it over."""
        try:
            yield
        finally:
            with self._wake:
                self._admission.on_ended(time.monotonic())

    def _turn(self, turned: Turned, detail: str) -> None:
        """Turn a job away. A second pass has a first answer, which is better than none."""
        job = turned.job
        if isinstance(job, RefinementJob) and turned.reason is not Reason.INVALID:
            self._on_result(job.base.job, job.base.result)
        else:
            self._on_turned(turned, detail)

    def _wait_for_more(self, job: Job, result: Result, doubt: _Doubt) -> bool:
        """Hold an unsure answer and ask for the rest; False without time for a second tail."""
        now_s = time.monotonic()
        base = Base(job, doubt.layers, result, give_up_s(job.deadline_s, now_s))
        with self._wake:
            busy_s = self._admission.wait_s(now_s) + self._admission.expected_s(job)
            # One that comes at the last moment must still be served in time.
            if now_s >= base.give_up_s or base.give_up_s + busy_s > job.deadline_s:
                return False
            gone = self._bases.hold(base)
        for old in gone:
            self._on_result(old.job, old.result)
        self._on_unsure(base, doubt.margin)
        return True

    def _answer(self, job: Job) -> tuple[Result, _Doubt | None]:
        loaded, frame = self._get(job.frame.bundle_id), job.frame
        bundle = loaded.runner.bundle
        boundary = bundle.boundary(frame.cut)
        if frame.tensors != len(boundary):
            raise MessageError(f"frame of {frame.tensors} tensors, cut {frame.cut} has"
                               f" {len(boundary)}")
        begin_s = time.monotonic()
        refined = isinstance(job, RefinementJob)
        if refined:
            layers = None
            arrays = loaded.coder.refine(job.base.layers, job.refinement.payload)
        else:
            arrays, layers = loaded.coder.decode_layers(frame.payload, boundary)
        decoded_s = time.monotonic()
        tensors = loaded.runner.run(dict(zip(bundle.cut(frame.cut).boundary, arrays)),
                                    frame.cut, bundle.last_cut)
        ran_s = time.monotonic()
        names = bundle.tail_outputs(frame.cut)
        payload = loaded.coder.encode([tensors[n] for n in names],
                                      [bundle.specs[n] for n in names], RAW)
        result = Result(
            frame.session, frame.frame_id, frame.plan_id,
            StageTimes(
                receive_us=clamp_us(job.complete_s - job.first_s),
                queue_us=clamp_us(begin_s - job.complete_s),
                decode_us=clamp_us(decoded_s - begin_s),
                tail_us=clamp_us(ran_s - decoded_s),
                encode_us=clamp_us(time.monotonic() - ran_s),
            ),
            len(names), payload, refined,
        )
        if refined:
            result = replace(result, stages=job.base.result.stages + result.stages)
        if layers is None or frame.codec is not Codec.LAYERED:
            return result, None
        return result, _doubt(bundle, layers, tensors)

    def _get(self, digest: bytes) -> _Loaded:
        loaded = self._loaded.get(digest)
        if loaded is None:
            loaded = self._loaded[digest] = self._load(digest)
            self._profiles.on_loaded(loaded.runner.bundle)
            while len(self._loaded) > self._max_loaded:
                gone, _ = self._loaded.popitem(last=False)
                self._admission.forget(gone)
                self._profiles.on_gone(gone)
            self._models = tuple((d.hex(), one.runner.bundle.manifest.name)
                                 for d, one in self._loaded.items())
        self._loaded.move_to_end(digest)
        now_s = time.monotonic()
        if now_s - loaded.touched_s > _TOUCH_S:
            self._store.touch(digest)
            loaded.touched_s = now_s
        return loaded

    def _load(self, digest: bytes) -> _Loaded:
        """Open, allocate and warm up. What cannot run here is remembered, and not kept; what the
        disk or the memory did not give this time says nothing of the bundle, and is asked for
        again after a while."""
        if digest in self.unfit:
            raise BundleError(self.unfit[digest])
        again_s, why = self._failed.get(digest, (0.0, ""))
        if time.monotonic() < again_s:
            raise BundleError(why)
        if not self._store.holds(digest):
            self._on_loaded()             # evicted meanwhile: devices should know
            raise BundleError(f"bundle {digest.hex()[:16]} is not in the store any more")
        begin_s = time.monotonic()
        self._store.touch(digest)         # whoever makes room meanwhile takes another
        proven = False
        try:
            bundle = self._store.open(digest)
            proven = True
            runner = Runner(bundle, runtime=self._runtime, threads=self._threads)
            runner.warm_up(range(len(bundle.manifest.segments)))
            coder = Coder(clips=bundle.clips, image=bundle.manifest.image, codings=bundle.codings)
        except Exception as e:  # a stranger's file: whatever it provokes is its own fault
            there = self._store.holds(digest)
            if isinstance(e, (Unreadable, OSError, MemoryError)) or proven and not there:
                why = f"the bundle could not be loaded: {str(e) or type(e).__name__}"
                _log.warning("event=bundle-not-loaded bundle=%s why=%r", digest.hex()[:16], why)
                if there:
                    self._put_off(digest, why)
                else:
                    self._on_loaded()     # evicted meanwhile: devices should know
                raise BundleError(why) from None
            if len(self.unfit) < _MAX_UNFIT:
                self.unfit[digest] = f"the bundle cannot run here: {e}"
            self._store.remove(digest)
            self._on_loaded()
            _log.error("event=bundle-refused bundle=%s error=%r", digest.hex()[:16], str(e))
            raise BundleError(f"the bundle cannot run here: {e}") from None
        _log.info("event=bundle-loaded bundle=%s model=%s runtime=%s ms=%.0f",
                  bundle.id_hex[:16], bundle.manifest.name, runner.runtime,
                  1e3 * (time.monotonic() - begin_s))
        self._failed.pop(digest, None)
        return _Loaded(runner, coder, time.monotonic())       # opening it has marked it

    def _put_off(self, digest: bytes, why: str) -> None:
        """Each frame would be loaded for otherwise, and others wait meanwhile."""
        self._failed[digest] = time.monotonic() + _AGAIN_S, why
        while len(self._failed) > _MAX_UNFIT:
            self._failed.popitem(last=False)


def _doubt(bundle: Bundle, layers: Layers, tensors: dict[str, np.ndarray]) -> _Doubt | None:
    """None for an answer that is sure enough, is no classification, or not the tail's."""
    name = bundle.manifest.outputs[0]
    if bundle.manifest.answer.kind != "classification" or name not in tensors:
        return None
    margin = certainty(to_real(tensors[name], bundle.specs[name]))
    return _Doubt(layers, margin) if margin < layers.margin else None
