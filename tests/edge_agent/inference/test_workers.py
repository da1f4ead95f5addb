"""Which worker a device sends to."""

from __future__ import annotations

from collections import Counter

from edge_agent.inference.workers import MAX_WORKERS, Workers
from split_core.wire.records import WorkerStatus

BUNDLE, OTHER = "aa" * 32, "bb" * 32


def ready(session: str = "s1", *bundles: str) -> WorkerStatus:
    return WorkerStatus("ready", session, bundles)


def test_there_is_none_until_one_says_it_is_ready():
    workers = Workers("device")
    assert workers.choose(BUNDLE) is None
    workers.on_status("w", WorkerStatus("init", "s1"))
    assert workers.choose(BUNDLE) is None
    workers.on_status("w", ready())
    assert workers.choose(BUNDLE) == "w"


def test_one_that_holds_the_bundle_is_preferred_to_any_that_does_not():
    for device in map(str, range(20)):
        workers = Workers(device)
        for i in range(5):
            workers.on_status(f"without-{i}", ready("s", OTHER))
        workers.on_status("with", ready("s", OTHER, BUNDLE))
        assert workers.choose(BUNDLE) == "with"
        assert workers.holds("with", BUNDLE) and not workers.holds("without-1", BUNDLE)
        assert not workers.holds("unknown", BUNDLE)


def test_a_fleet_spreads_over_the_pool_and_a_device_stays_with_its_worker():
    names = [f"w{i}" for i in range(4)]

    def chosen(device: str, pool: list[str]) -> str:
        workers = Workers(device)
        for name in pool:
            workers.on_status(name, ready("s", BUNDLE))
        return workers.choose(BUNDLE)

    devices = [f"device-{i}" for i in range(400)]
    before = {d: chosen(d, names) for d in devices}
    # 100 each on average; four standard deviations are 35.
    assert all(65 < n < 135 for n in Counter(before.values()).values())
    assert all(chosen(d, names[::-1]) == before[d] for d in devices), "order does not matter"
    after = {d: chosen(d, names[:3]) for d in devices}
    moved = [d for d in devices if before[d] != after[d]]
    assert {before[d] for d in moved} == {"w3"}, "only those whose worker has gone move"


def test_the_one_configured_or_none():
    workers = Workers("device", wanted="mine")
    workers.on_status("other", ready("s", BUNDLE))
    assert workers.choose(BUNDLE) is None
    workers.on_status("mine", ready())
    assert workers.choose(BUNDLE) == "mine"


def test_an_old_connections_death_does_not_kill_the_new_one():
    workers = Workers("device")
    workers.on_status("w", ready("new"))
    for end in ("lost", "stopped"):
        workers.on_status("w", WorkerStatus(end, "old"))
        assert workers.choose(BUNDLE) == "w"
    workers.on_status("w", WorkerStatus("lost", "new"))
    assert workers.choose(BUNDLE) is None


def test_goodbye_and_a_cleared_status_end_it():
    workers = Workers("device")
    workers.on_status("w", ready())
    workers.on_status("w", WorkerStatus("stopped", "s1"))
    assert workers.choose(BUNDLE) is None
    workers.on_status("w", ready())
    workers.on_cleared("w")
    workers.on_cleared("never there")
    workers.on_status("never there", WorkerStatus("lost", "s1"))
    assert workers.choose(BUNDLE) is None


def test_a_lost_broker_leaves_nothing_known():
    workers = Workers("device")
    workers.on_status("w", ready("s1", BUNDLE))
    workers.forget_all()
    assert workers.choose(BUNDLE) is None and not workers.holds("w", BUNDLE)


def test_those_that_can_be_sent_to_at_once_are_told_in_order():
    workers = Workers("device")
    for name in ("w3", "w1", "w2"):
        workers.on_status(name, ready("s", BUNDLE, OTHER))
    workers.on_status("without", ready("s", OTHER))
    workers.on_status("starting", WorkerStatus("init", "s", (BUNDLE,)))
    assert workers.holding(BUNDLE) == ("w1", "w2", "w3")
    workers.on_cleared("w2")
    assert workers.holding(BUNDLE) == ("w1", "w3")
    assert workers.holding("cc" * 32) == ()
    workers.forget_all()
    assert workers.holding(BUNDLE) == ()


def test_where_one_is_configured_it_is_the_only_one():
    workers = Workers("device", wanted="mine")
    workers.on_status("other", ready("s", BUNDLE))
    workers.on_status("mine", ready("s", OTHER))
    assert workers.holding(BUNDLE) == () and workers.holding(OTHER) == ("mine",)


def test_one_that_is_not_trusted_is_never_chosen():
    workers = Workers("device", trusted=("mine",))
    workers.on_status("theirs", ready("s", BUNDLE))
    assert workers.choose(BUNDLE) is None, "though it holds the bundle, and nobody else is there"
    workers.on_status("mine", ready("s", OTHER))
    assert workers.choose(BUNDLE) == "mine", "which is to be offered the bundle"
    assert Workers("device", wanted="theirs", trusted=()).choose(BUNDLE) is None


def test_names_that_somebody_invents_do_not_fill_the_memory_nor_keep_out_who_is_named():
    workers = Workers("device", trusted=("trusted",))
    for i in range(2 * MAX_WORKERS):
        workers.on_status(f"invented-{i}", ready("s", BUNDLE))
    assert len(workers.holding(BUNDLE)) == MAX_WORKERS
    workers.on_status("trusted", ready("s", BUNDLE))
    assert workers.choose(BUNDLE) == "trusted" and workers.is_ready("invented-0")
    workers.on_status("invented-0", ready("s2", BUNDLE))
    assert workers.is_ready("invented-0"), "who is known may say more"
    workers.on_cleared("invented-0")
    workers.on_cleared("trusted")
    workers.on_status("new", ready("s", BUNDLE))
    assert workers.is_ready("new"), "there is room again"
    workers.limit("wanted", None)
    workers.on_status("wanted", ready("s", BUNDLE))
    assert workers.choose(BUNDLE) == "wanted"
