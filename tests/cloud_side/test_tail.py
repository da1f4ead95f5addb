"""Frames in two layers at the worker: asked about, waited for, and answered either way; and
what the thread does when no frame waits.

No thread runs: a job that is quick is served at once by whoever offers it, here the test.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from cloud_side.admission import Admission, Job
from cloud_side.profiles import BundleProfiles
from cloud_side.store import BundleStore
from cloud_side.tail import TailThread
from split_core.errors import BundleError
from split_core.model.bundle import open_bundle
from split_core.model.certainty import certainty
from split_core.model.manifest import Answer
from split_core.model.runner import Runner, resolve_runtime
from split_core.wire import messages as m
from split_core.wire.payload import Coder
from split_core.wire.quality import encode
from split_core.wire.rungs import Rung
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.calibrated import calibrate_roughly
from tests.support.tiny_models import input_like

CUT = 3


class Desk:
    """A tail with what it says, and the device's side of its frames."""

    def __init__(self, folder, bundle):
        self.bundle = bundle
        store = BundleStore(folder / "store", 1 << 30)
        store.path(bundle.sha256).write_bytes(bundle.path.read_bytes())
        self.results, self.turned, self.unsure = [], [], []
        self.admission = Admission(max_queue=1)
        self.profiles = BundleProfiles(str(folder / "state"), runtime=resolve_runtime(None),
                                       threads=1)
        self.loaded = 0
        self.tail = TailThread(
            store, self.admission, self.profiles, runtime=None, threads=1, max_loaded=2,
            on_result=lambda job, result: self.results.append(result),
            on_turned=lambda turned, detail: self.turned.append((turned.reason, detail)),
            on_unsure=lambda base, margin: self.unsure.append((base, margin)),
            on_loaded=self._on_loaded, on_fatal=self._fail)
        self.tail._get(bundle.sha256)
        self.coder, self.runner = Coder(codings=bundle.codings), Runner(bundle)
        self.layers = {}

    def _on_loaded(self):
        self.loaded += 1

    def _fail(self, error):
        raise error

    def quick(self, job: Job) -> None:
        """Tails have taken no time so far: what is offered is served at once."""
        self.admission.forget(self.bundle.sha256)
        self.admission.on_served(job, 1e-4)

    def job(self, frame_id: int, *, rung: str = "kl0.02+refine", margin: float = 1.0,
            budget_s: float = 60.0, sender: str = "a") -> Job:
        boundary = self.bundle.boundary(CUT)
        live = self.runner.run({"image": input_like(
            self.bundle.specs["image"], np.random.default_rng(frame_id))}, 0, CUT)
        encoded = encode(self.coder, [live[s.name] for s in boundary], boundary,
                         Rung.parse(rung), self.bundle.rate(CUT), margin)
        self.layers[frame_id] = encoded.layers
        now_s = time.monotonic()
        frame = m.Frame(self.bundle.sha256, 1, frame_id, 1, round(1e6 * budget_s), CUT,
                        Rung.parse(rung).codec, len(boundary), encoded.payload)
        return Job(sender, frame, now_s, now_s)

    def offer(self, frame_id: int, **how) -> None:
        job = self.job(frame_id, **how)
        self.quick(job)
        assert self.tail.offer(job, time.monotonic()) is None

    def refinement(self, frame_id: int) -> m.Refinement:
        return m.Refinement(1, frame_id, 30_000_000,
                            self.coder.encode_refinement(self.layers[frame_id]))

    def refine(self, refinement: m.Refinement, sender: str = "a") -> bool:
        self.quick(self.job(0))
        now_s = time.monotonic()
        return self.tail.refine(sender, refinement, now_s, now_s)

    def scores(self, arrays) -> np.ndarray:
        return self.runner.run(dict(zip(self.bundle.cut(CUT).boundary, arrays)), CUT,
                               self.bundle.last_cut)["scores"]

    def scores_of(self, result: m.Result) -> np.ndarray:
        (scores,) = self.coder.decode(result.payload, [self.bundle.specs["scores"]])
        return scores


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skip")
    (folder / "skip.tflite").write_bytes(tiny_models.skip_model())
    return calibrate_roughly(folder / "skip.tflite", folder / "skip.split.tflite", CUT, margin=0.5)


@pytest.fixture
def desk(tmp_path, bundle) -> Desk:
    return Desk(tmp_path, bundle)


def test_an_unsure_answer_is_asked_about_and_the_refined_one_is_exact(desk):
    desk.offer(1)
    assert not desk.results
    ((base, margin),) = desk.unsure
    assert base.key == ("a", 1, 1)
    assert margin == pytest.approx(certainty(desk.scores_of(base.result)))
    assert desk.refine(desk.refinement(1))
    (result,) = desk.results
    assert result.refined and (result.session, result.frame_id, result.plan_id) == (1, 1, 1)
    arrays, layers = desk.coder.decode_layers(base.job.frame.payload, desk.bundle.boundary(CUT))
    wanted = desk.scores(desk.coder.refine(layers, desk.refinement(1).payload))
    assert desk.scores_of(result).tobytes() == wanted.tobytes()
    assert wanted.tobytes() != desk.scores(arrays).tobytes()


def test_stage_times_are_those_of_both_passes(desk):
    desk.offer(1)
    first = desk.unsure[0][0].result.stages
    desk.quick(desk.job(0))
    now_s = time.monotonic()
    # The second layer came in pieces over 20 ms, and so did nothing else.
    assert desk.tail.refine("a", desk.refinement(1), now_s - 0.02, now_s)
    stages = desk.results[0].stages
    assert stages.receive_us == pytest.approx(20_000, abs=1)
    for name in ("queue_us", "decode_us", "tail_us", "encode_us"):
        assert getattr(stages, name) > getattr(first, name), name


def test_a_sure_answer_goes_out_at_once(desk):
    desk.offer(1, margin=0.0)
    (result,) = desk.results
    assert not result.refined and not desk.unsure


def test_the_header_says_what_is_sure_enough(desk):
    desk.offer(1)
    found = desk.unsure[0][1]
    desk.offer(1, margin=found - 1e-4)
    assert len(desk.results) == 1 and len(desk.unsure) == 1
    desk.offer(1, margin=found + 1e-4)
    assert len(desk.results) == 1 and len(desk.unsure) == 2


@pytest.mark.parametrize("rung", ["raw", "q4", "kl0.02"])
def test_a_frame_in_one_layer_is_not_asked_about(desk, rung):
    desk.offer(1, rung=rung)
    assert len(desk.results) == 1 and not desk.unsure


def test_only_a_frame_that_says_so_is_in_two_layers(desk):
    job = desk.job(1)
    job = replace(job, frame=replace(job.frame, codec=m.Codec.CALIBRATED))
    desk.quick(job)
    desk.tail.offer(job, time.monotonic())
    assert len(desk.results) == 1 and not desk.unsure


def test_only_classifications_have_a_margin(desk):
    runner = desk.tail._loaded[desk.bundle.sha256].runner
    runner.bundle = replace(runner.bundle, manifest=msgspec.structs.replace(
        runner.bundle.manifest, answer=Answer("tensors")))
    desk.offer(1)
    assert len(desk.results) == 1 and not desk.unsure


def test_nobody_is_asked_when_a_second_tail_would_be_late(desk):
    # 0.1 s are left and tails take some 60 ms: more than what is left after waiting for half.
    desk.admission.on_served(desk.job(0), 0.08)
    desk.tail.offer(desk.job(1, budget_s=0.1), time.monotonic())
    desk.tail._serve(desk.admission.take(time.monotonic())[0])
    assert len(desk.results) == 1 and not desk.unsure


def test_when_the_refinement_does_not_come_the_first_answer_goes(desk):
    desk.offer(1, budget_s=1.0)
    desk.tail.give_up_waiting()
    assert not desk.results
    base = desk.unsure[0][0]
    while time.monotonic() < base.give_up_s:
        time.sleep(base.give_up_s - time.monotonic() + 1e-4)
    desk.tail.give_up_waiting()
    assert desk.results == [base.result] and not base.result.refined
    # Late, it is nobody's.
    assert not desk.refine(desk.refinement(1))
    desk.tail.give_up_waiting()
    assert len(desk.results) == 1


def test_a_crowded_worker_sends_the_first_answer(desk):
    desk.offer(1)
    desk.tail._busy = True                        # another thread serves, and one waits
    assert desk.tail.offer(desk.job(2, rung="raw"), time.monotonic()) is None
    assert desk.refine(desk.refinement(1))
    assert desk.results == [desk.unsure[0][0].result] and not desk.turned


def test_one_that_gets_late_in_the_queue_leaves_the_first_answer(desk):
    desk.offer(1)
    desk.tail._busy = True
    desk.refine(replace(desk.refinement(1), budget_us=1000))
    assert not desk.results and len(desk.admission) == 1
    time.sleep(0.002)
    desk.tail._busy = False
    assert desk.tail._step()
    assert desk.results == [desk.unsure[0][0].result] and not desk.turned


def test_too_many_at_once_get_what_they_have(desk):
    desk.tail._bases.max_bases = 2
    for i in (1, 2, 3):
        desk.offer(i)
    assert [r.frame_id for r in desk.results] == [1] and not desk.results[0].refined
    assert not desk.refine(desk.refinement(1)) and desk.refine(desk.refinement(3))


def test_foreign_and_repeated_refinements_are_nobodys(desk):
    desk.offer(1)
    good = desk.refinement(1)
    for other in (replace(good, session=2), replace(good, frame_id=2)):
        assert not desk.refine(other)
    assert not desk.refine(good, sender="b")
    assert not desk.results
    assert desk.refine(good) and not desk.refine(good)
    assert len(desk.results) == 1


@pytest.mark.parametrize("spoil", [
    lambda p: p[:-1], lambda p: p + b"x", lambda p: b"", lambda p: b"\x07" + p[1:],
    lambda p: p[:4] + b"\x00\x00\x80\x3f" + p[8:],                    # a margin of 1
    lambda p: p[:8] + b"\x00\x00\x00\x00" + p[12:],                   # another step
])
def test_one_that_is_wrong_is_refused(desk, spoil):
    desk.offer(1)
    good = desk.refinement(1)
    assert desk.refine(replace(good, payload=spoil(bytes(good.payload))))
    assert [reason for reason, _ in desk.turned] == [m.Reason.INVALID] and not desk.results
    assert not desk.refine(good), "there is no second chance"


def test_when_the_bundle_went_meanwhile_the_first_answer_goes(desk):
    desk.offer(1)
    desk.tail._loaded.clear()
    desk.tail._store.remove(desk.bundle.sha256)
    assert desk.refine(desk.refinement(1))
    assert len(desk.admission) == 1, "a bundle that is not loaded is for the tail thread"
    assert desk.tail._step()
    assert desk.results == [desk.unsure[0][0].result]


def test_a_link_that_went_takes_what_waits_with_it(desk):
    desk.offer(1)
    desk.tail.forget_waiting()
    assert not desk.refine(desk.refinement(1)) and not desk.results


# -- load

def test_nothing_is_under_way_when_an_answer_goes_out(desk):
    seen = []
    desk.tail._on_result = lambda job, result: seen.append(desk.tail.load(time.monotonic()))
    desk.offer(1, rung="raw")
    ((wait_s, busy_s),) = seen
    assert wait_s == 0.0 and busy_s > 0.0
    assert desk.tail.load(time.monotonic()) == (0.0, busy_s)


def test_a_frame_that_fails_is_over_too(desk):
    job = desk.job(1, rung="raw")
    job = replace(job, frame=replace(job.frame, payload=b"\x09"))
    desk.quick(job)
    desk.tail.offer(job, time.monotonic())
    assert [reason for reason, _ in desk.turned] == [m.Reason.INVALID]
    first = desk.tail.load(time.monotonic())
    assert first[0] == 0.0 and first == desk.tail.load(time.monotonic() + 1)


# -- profiles

def quiet(desk) -> None:
    """As if no frame had come for a while."""
    desk.tail._offered_s = time.monotonic() - 60


def test_a_bundle_is_measured_before_devices_are_told_of_it(desk):
    seen = []
    desk.tail._on_loaded = lambda: seen.append([p.bundle for p in desk.profiles.current])
    desk.tail.preload(desk.bundle.sha256)
    assert desk.tail._step()
    assert seen == [[desk.bundle.id_hex]] and desk.profiles.missing == 0


def test_a_frame_that_waits_goes_first_and_the_profile_is_made_when_it_is_quiet(desk):
    desk.tail._busy = True
    desk.tail.preload(desk.bundle.sha256)
    assert desk.tail.offer(desk.job(1, rung="raw"), time.monotonic()) is None
    desk.tail._busy = False
    for _ in range(2):                            # the bundle, then its frame
        assert desk.tail._step()
        desk.tail._done()
    assert desk.loaded == 1 and len(desk.results) == 1
    assert desk.profiles.current == () and desk.profiles.missing == 1
    assert not desk.tail._has_work(), "a frame has only just come"
    quiet(desk)
    assert desk.tail._step()
    assert len(desk.profiles.current) == 1 and desk.loaded == 1


def test_a_frame_that_comes_meanwhile_interrupts(desk, monkeypatch):
    asked = []

    def wanted() -> bool:
        asked.append(True)
        if len(asked) == 3:                       # between the second run and the third
            desk.tail._admission.offer(desk.job(1, rung="raw"), time.monotonic())
        return TailThread._is_wanted(desk.tail)

    monkeypatch.setattr(desk.tail, "_is_wanted", wanted)
    quiet(desk)
    assert desk.tail._step()
    assert len(asked) == 3 and desk.profiles.missing == 1 and desk.profiles.current == ()
    desk.tail._done()
    assert desk.tail._step() and len(desk.results) == 1


def test_while_it_measures_no_other_thread_serves(desk):
    during = []
    desk.profiles.measure_one = lambda wanted: during.append(desk.tail._is_quick(job))
    job = desk.job(1, rung="raw")
    desk.quick(job)
    quiet(desk)
    assert desk.tail._is_quick(job)
    assert desk.tail._step() and during == [False]


def test_a_bundle_that_leaves_memory_leaves_the_record(desk, tmp_path):
    quiet(desk)
    assert desk.tail._step() and len(desk.profiles.current) == 1
    (tmp_path / "camera.tflite").write_bytes(tiny_models.camera_model())
    data = split_model(tmp_path / "camera.tflite", cuts=[5])
    (tmp_path / "camera.split.tflite").write_bytes(data)
    other = open_bundle(tmp_path / "camera.split.tflite")
    desk.tail._store.path(other.sha256).write_bytes(data)
    desk.tail._max_loaded = 1
    desk.tail._done()
    desk.tail.preload(other.sha256)
    assert desk.tail._step()
    assert [p.bundle for p in desk.profiles.current] == [other.id_hex]
    # It comes back with what was kept.
    desk.tail._get(desk.bundle.sha256)
    assert [p.bundle for p in desk.profiles.current] == [desk.bundle.id_hex]
    assert desk.profiles.missing == 0


def test_a_bundle_in_use_is_marked_as_used_now_and_then_not_with_every_frame(desk, monkeypatch):
    now_s, touched = [time.monotonic()], []
    monkeypatch.setattr("cloud_side.tail.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr(BundleStore, "touch", lambda store, digest: touched.append(digest))
    for passed_s, marks in ((0, 0), (599, 0), (2, 1), (1, 1), (598, 1), (2, 2), (1, 2)):
        now_s[0] += passed_s
        desk.tail._get(desk.bundle.sha256)
        assert len(touched) == marks, f"after {passed_s} s more"


def test_other_bounds_hold_from_the_next_frame_and_bundle_on(desk, tmp_path):
    def reasons(jobs) -> list[m.Reason]:
        turned = [desk.tail.offer(job, time.monotonic()) for job in jobs]
        return [t.reason for t in turned if t is not None]

    # No thread runs and nothing is known of how long they take: all of them wait.
    jobs = [desk.job(i, rung="kl0.02") for i in range(4)]
    assert reasons(jobs[:2]) == [m.Reason.SHED], "one may wait"
    desk.tail.reconfigure(max_queue=3, max_loaded=1)
    assert reasons(jobs[1:]) == [m.Reason.SHED], "three may"
    (tmp_path / "other.tflite").write_bytes(tiny_models.state_model())
    (tmp_path / "other").write_bytes(split_model(tmp_path / "other.tflite"))
    other = open_bundle(tmp_path / "other")
    desk.tail._store.path(other.sha256).write_bytes(other.path.read_bytes())
    desk.tail._get(other.sha256)
    assert [bundle for bundle, _ in desk.tail.glance(time.monotonic()).models] == [other.id_hex]


@pytest.fixture
def forgotten(desk) -> Desk:
    """Its bundle is in the store, and has to be loaded anew."""
    desk.tail._loaded.clear()
    desk.loaded = 0
    return desk


def test_a_bundle_that_is_evicted_while_it_loads_is_not_banned(forgotten, monkeypatch):
    desk, store = forgotten, forgotten.tail._store
    warm_up = Runner.warm_up

    def evicted(runner, *args):
        warm_up(runner, *args)
        store.remove(desk.bundle.sha256)     # by whom a fetch, or `deploy`, needs room

    monkeypatch.setattr(Runner, "warm_up", evicted)
    with pytest.raises(BundleError, match="could not be loaded"):
        desk.tail._get(desk.bundle.sha256)
    assert not desk.tail.unfit and desk.loaded == 1, "devices are told that it is gone"
    monkeypatch.undo()
    store.path(desk.bundle.sha256).write_bytes(desk.bundle.path.read_bytes())
    desk.tail._get(desk.bundle.sha256)       # sent again, it runs


def test_nor_is_one_that_is_evicted_before_the_runtime_opens_it(forgotten, monkeypatch):
    desk, store = forgotten, forgotten.tail._store
    opened = store.open

    def evicted(digest):
        found = opened(digest)
        store.remove(digest)
        return found

    monkeypatch.setattr(store, "open", evicted)
    with pytest.raises(BundleError, match="could not be loaded"):
        desk.tail._get(desk.bundle.sha256)
    assert not desk.tail.unfit and desk.loaded == 1


def test_a_damaged_file_is_thrown_away_and_not_loaded_again(forgotten):
    desk, path = forgotten, forgotten.tail._store.path(forgotten.bundle.sha256)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match="cannot run here"):
        desk.tail._get(desk.bundle.sha256)
    assert not path.exists() and list(desk.tail.unfit) == [desk.bundle.sha256]


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_what_the_machine_lacks_says_nothing_of_a_bundle(forgotten, monkeypatch, error):
    """It is asked for again, but not with every frame: others wait while it loads."""
    desk, store, tried = forgotten, forgotten.tail._store, []
    now_s = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])

    def fails(*_args):
        tried.append(now_s[0])
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "warm_up", fails)
        for _ in range(100):
            with pytest.raises(BundleError, match="could not be loaded: .*(Too many|MemoryError)"):
                desk.tail._get(desk.bundle.sha256)
            now_s[0] += 1.0
        assert len(tried) == 2
        assert not desk.tail.unfit and store.holds(desk.bundle.sha256)
        assert desk.loaded == 0, "devices have nothing to be told"
    now_s[0] += 60.0
    desk.tail._get(desk.bundle.sha256)


def test_a_file_that_somebody_else_put_there_is_served(forgotten, monkeypatch):
    """Copied by root: the worker may read it, and not say that it was used."""
    def refused(*_args, **_how):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)
    forgotten.tail._get(forgotten.bundle.sha256)


def test_what_cannot_run_is_remembered_and_thrown_away(forgotten, monkeypatch):
    desk, store = forgotten, forgotten.tail._store

    def fails(*_args):
        raise RuntimeError("no such op")

    monkeypatch.setattr(Runner, "warm_up", fails)
    for _ in range(2):
        with pytest.raises(BundleError, match="cannot run here: no such op"):
            desk.tail._get(desk.bundle.sha256)
    assert list(desk.tail.unfit) == [desk.bundle.sha256] and not store.holds(desk.bundle.sha256)


def test_one_that_is_looked_at_is_the_last_to_go(forgotten):
    path = forgotten.tail._store.path(forgotten.bundle.sha256)
    os.utime(path, (1, 1))
    seen = []
    opened = forgotten.tail._store.open

    def watched(digest):
        seen.append(path.stat().st_mtime)
        return opened(digest)

    forgotten.tail._store.open = watched
    forgotten.tail._get(forgotten.bundle.sha256)
    assert seen[0] > time.time() - 60, "before it is read, which takes a while"
