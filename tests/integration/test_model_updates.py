"""Models over the broker: real broker, real workers, and the agent as the daemon makes it."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from edge_agent.config import ModelConfig
from edge_agent.daemon import Daemon, compose
from edge_agent.models import fetch, store, updater
from edge_agent.models.selftest import Report
from split_core.blobs import PART_BYTES
from split_core.config import BrokerConfig
from split_core.crypto.config import SealConfig
from split_core.errors import BundleError, SourceLost, SplitError
from split_core.model.runner import WholeModel
from split_core.wire.chunks import push_chunks
from split_core.wire.messages import BlobPart, Kind, push_blob_part
from tests.edge_agent.models.making import bundle_of, fragile_model, sha256_of
from tests.integration.updating import Holder, command, deploy, ended, sha_of, updated_device
from tests.support import tiny_models
from tests.support.brokers import Mosquitto
from tests.support.rig import ROOT, Rig, WorkerProcess, wait_until


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Bundles by name: `old` and `new` take the same pictures and answer differently, `fragile`
    fails on frames but not on a self-test, `other` takes other inputs."""
    folder = tmp_path_factory.mktemp("bundles")
    return {"old": bundle_of(folder, "old", tiny_models.camera_model(seed=2)),
            "new": bundle_of(folder, "new", tiny_models.camera_model(seed=3)),
            "third": bundle_of(folder, "third", tiny_models.camera_model(seed=4)),
            "fragile": bundle_of(folder, "fragile", fragile_model()),
            "other": bundle_of(folder, "other", tiny_models.skip_model())}


@pytest.fixture
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def answers_by(bundle, device):
    """What a bundle's model makes of each input of the device's pool."""
    whole = WholeModel(bundle.with_name(bundle.name.replace(".split", "")))
    return [whole.run(inputs.values())[0] for inputs in device.inputs]


def check_none_lost(device) -> None:
    """Every frame has ended, none failed or was late, and none went with its model. On a machine
    that is busy with other things one may find the mailbox taken, which says nothing of models."""
    device.history.check(device.agent)
    ends = device.history.ends
    bad = [e for e in ends if e.late or e.outcome == "failed"
           or e.outcome == "dropped" and e.reason != "newer frame came"]
    assert not bad, "\n".join(map(str, bad))
    assert sum(e.outcome == "dropped" for e in ends) <= 0.2 * len(ends), ends


def test_a_good_update_while_frames_flow(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"], keep_outputs=True, trial_frames=20) as device:
        device.wait_until_ready()
        before_plan = device.agent.plan.plan_id
        with device.feeding(20):
            device.wait_for_frames(20, 10)
            code, said = ended(deploy(rig, made["new"], worker, "--confirmed", "--json"))
            assert code == 0, said
            device.wait_until_ready()
            since_s = max(e.seen_s for e in device.history.ends)
            device.history.wait_for_remote(since_s, 10)
            device.wait_for_frames(20, 10)
        check_none_lost(device)
        assert device.in_force == sha_of(made["new"])
        assert json.loads(said.splitlines()[0])["state"] == "confirmed"
        for state in ("fetching", "verifying", "testing", "swapped", "confirmed"):
            assert f"pi: {state}" in said
        # Every answer is one model's or the other's, and there is one moment between them.
        old, new = answers_by(made["old"], device), answers_by(made["new"], device)
        by = []
        for frame_id, answer in sorted(device.history.answers.items()):
            if answer.outputs is None:
                continue
            index = (frame_id - 1) % len(device.inputs)
            (scores,) = answer.outputs.values()
            fits = [np.allclose(scores, of[index], rtol=1e-4, atol=1e-6) for of in (old, new)]
            assert sum(fits) == 1, f"frame {frame_id} is answered by neither or both: {fits}"
            by.append(fits[1])
        assert by == sorted(by) and True in by and False in by
        assert device.agent.plan.plan_id > before_plan, "plans go on counting"
        record = device.record()
        assert (record["current"], record["trial"]) == (device.in_force, None)
        assert [e["event"] for e in (device.events("model-fetching") + device.events("model")
                                     + device.events("model-confirmed"))] == [
            "model-fetching", "model", "model-confirmed"]
        refused = [line for line in worker.log().splitlines() if "event=refused" in line]
        assert not refused, refused


def put(bundle: Path, store: Path, name: str | None = None) -> str:
    """Put a file into a worker's store by hand, under its digest or another's; that."""
    sha256 = name or sha256_of(bundle)
    store.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle, store / f"{sha256}.split.tflite")
    return sha256


def models_of(device) -> list[str]:
    """Files in the device's folder of models, without the record."""
    return sorted(f.name for f in device.models.glob("*") if f.name != "current.json") \
        if device.models.exists() else []


def refusal(device, sha256: str, worker: str, nbytes: int, **more) -> str:
    """Send a command, wait until it is refused, and say why."""
    return command(device, until=("refused",), sha256=sha256, bytes=nbytes,
                   **{"from": worker}, **more)["error"]


# -- who made it


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two pairs of keys: the trusted one, and a stranger's."""
    pytest.importorskip("cryptography", reason="the extra e2e is not installed")
    from split_core.crypto.signature import generate

    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "strange"):
        generate(folder / name)
    return folder


def test_with_a_key_only_what_it_signed_is_taken(rig, made, keys):
    worker = rig.worker()
    key = str(keys / "ours.pub")
    with updated_device(rig, made["old"], public_key_file=key) as device:
        device.wait_until_ready()
        for options, words in (((), "it is not signed"),
                               (("--sign", str(keys / "strange")), "none of the 1 keys"),):
            code, said = ended(deploy(rig, made["new"], worker, *options))
            assert code == 65 and words in said, said
        old_signature = command_signature(made["third"], keys / "ours")
        sha256 = put(made["new"], worker.store)
        assert "none of the 1 keys" in refusal(device, sha256, worker.id, 1000,
                                               signature=old_signature)
        assert "is no signature" in refusal(device, sha256, worker.id, 1000, signature="rot13 abc")
        assert models_of(device) == [], "nothing is fetched that nobody signed"
        assert device.in_force == sha_of(made["old"])
        assert device.wait_for_event("model-refused")["bundle"] == sha_of(made["new"])
        code, said = ended(deploy(rig, made["new"], worker, "--sign", str(keys / "ours")))
        assert code == 0, said
        assert device.in_force == sha_of(made["new"])


def command_signature(bundle, key) -> str:
    from cloud_side.deploy import signature_of

    return signature_of(bundle, str(key))


def test_what_is_signed_beforehand_needs_no_key_to_deploy(rig, made, keys, tmp_path):
    bundle = Path(shutil.copy(made["new"], tmp_path))
    worker = rig.worker()
    with updated_device(rig, made["old"], public_key_file=str(keys / "ours.pub")) as device:
        device.wait_until_ready()
        signed = subprocess.run([sys.executable, "-m", "cloud_side.cli", "sign", str(bundle),
                                 "--key", str(keys / "ours")], cwd=ROOT, capture_output=True,
                                text=True, timeout=60)
        assert signed.stdout.strip() == f"{bundle}.sig", signed
        code, said = ended(deploy(rig, bundle, worker))
        assert code == 0, said
        assert device.in_force == sha_of(bundle)


def test_it_works_under_the_access_rules_and_sealed(made, tmp_path):
    """Each with no more rights than its role has; what devices and workers say is sealed."""
    pytest.importorskip("cryptography", reason="the extra e2e is not installed")
    (tmp_path / "names").write_text("device pi\nworker w1\noperator anna\n")
    with (tmp_path / "acl").open("wb") as acl:
        subprocess.run([sys.executable, str(ROOT / "integrations/mosquitto/make_acl.py"),
                        str(tmp_path / "names")], stdout=acl, check=True, timeout=30)
    users = {name: f"{name}-secret" for name in ("pi", "w1", "anna")}
    for name, secret in users.items():
        path = tmp_path / f"{name}.password"
        path.touch(mode=0o600)
        path.write_text(secret + "\n")
    sealing = tmp_path / "seal-keys"
    sealing.touch(mode=0o600)
    sealing.write_text(f"all {base64.b64encode(bytes(range(32))).decode()}\n")
    (tmp_path / "w1.toml").write_text(
        f'id = "w1"\n[broker]\nusername = "w1"\npassword_file = "{tmp_path}/w1.password"\n'
        f'[seal]\nkeys_file = "{sealing}"\n')
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(
            tmp_path, (f"acl_file {tmp_path / 'acl'}",), users=users))
        rig = SimpleNamespace(url=broker.url, device_url=broker.url, directory=tmp_path,
                              observer=None)
        worker = WorkerProcess(tmp_path, broker.url, "w1", "-c", str(tmp_path / "w1.toml"))
        stack.callback(worker.stop)
        worker.start()
        device = stack.enter_context(updated_device(
            rig, made["old"], seal=SealConfig(str(sealing)), broker=BrokerConfig(
                broker.url, username="pi", password_file=str(tmp_path / "pi.password"))))
        device.wait_until_ready()
        for user, code in (("w1", 77), ("anna", 0)):
            found, said = ended(deploy(rig, made["new"], worker, "--username", user,
                                       "--password-file", str(tmp_path / f"{user}.password")))
            assert found == code, said
            assert (user == "anna") or "does not let this user command pi" in said
        assert device.in_force == sha_of(made["new"])
        device.wait_until_ready()
        with device.feeding(10):
            device.wait_for_frames(10, 20)
        remote = [e for e in device.history.ends if e.outcome == "remote"]
        assert remote, "the worker has it, too"


# -- what comes in


def test_a_flipped_byte_is_refused_and_the_old_model_kept(rig, made, tmp_path):
    data = bytearray(made["new"].read_bytes())
    data[len(data) // 2] ^= 1
    flipped, sha256 = tmp_path / "flipped", sha_of(made["new"])
    flipped.write_bytes(data)
    with updated_device(rig, made["old"], cut=None) as device, \
            Holder(rig, "h1", {sha256: flipped}):
        assert "blob has SHA-256" in refusal(device, sha256, "h1", len(data))
        assert models_of(device) == [] and device.in_force == sha_of(made["old"])
        with device.feeding(10):
            device.wait_for_frames(5, 10)
    device.history.check_all_answered_in_time(device.agent)


def test_what_is_no_bundle_or_no_fit_is_refused(rig, made):
    model, other, third = made["new"].with_name("new.tflite"), made["other"], made["third"]
    files = {sha256_of(f): f for f in (model, other, third)}
    with updated_device(rig, made["old"], cut=None, max_mb=2) as device, Holder(rig, "h1", files):
        for file, words in ((model, "this is a model, not a bundle"),
                            (other, "it takes float32[1, 8, 8, 3], and the frames here are")):
            assert words in refusal(device, sha256_of(file), "h1", file.stat().st_size)
            assert models_of(device) == [], "what was refused is not kept"
        size, sha256 = third.stat().st_size, sha_of(third)
        for wrong in (size - 1, size + PART_BYTES):
            assert f"has a bundle of {size} bytes" in refusal(device, sha256, "h1", wrong)
        assert "updates.max_mb allows 2097152" in refusal(device, sha256, "h1", 2**21 + 1)
        assert "does not hold" in refusal(device, "ab" * 32, "h1", 1000)
        assert models_of(device) == [] and device.in_force == sha_of(made["old"])


@pytest.mark.parametrize("wrong, words", [
    ({"sha256": "../../../etc/passwd"}, "sha256"),
    ({"sha256": "AB" * 32}, "sha256"),
    ({"sha256": "ab" * 31}, "sha256"),
    ({"from": "w1/../w2"}, "id 'w1/../w2'"),
    ({"from": "+"}, "id '+'"),
    ({"bytes": 0}, "bytes"),
    ({"bytes": "many"}, "bytes"),
    ({"path": "/tmp/x"}, "unknown key path"),
    ({"signature": 5}, "signature"),
])
def test_commands_are_read_strictly(one_device, wrong, words):
    good = {"sha256": "ab" * 32, "bytes": 1000, "from": "w1"}
    reply = command(one_device, **(good | wrong))
    assert reply["status"] == "error" and words in reply["error"], reply
    assert models_of(one_device) == []


@pytest.fixture(scope="module")
def one_device(made, tmp_path_factory):
    """A device for questions that change nothing."""
    with Rig(tmp_path_factory.mktemp("one")) as rig:
        with updated_device(rig, made["old"], cut=None) as device:
            yield device


def test_only_the_worker_that_was_named_may_answer(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"]) as device:
        device.wait_until_ready()
        rig.wait_for_worker(worker)
        size, data = made["new"].stat().st_size, made["new"].read_bytes()
        sha256 = put(made["new"], worker.store)
        worker.pause()
        command(device, sha256=sha256, bytes=size, **{"from": worker.id})
        refused = device.agent.node.refused
        for sender, digest in (("w9", bytes.fromhex(sha256)), (worker.id, b"\1" * 32)):
            body = push_blob_part(BlobPart(digest, 0, size, data[:PART_BYTES]))
            for chunk in push_chunks(Kind.BLOB_PART, 77, body, 60_000):
                rig.observer.publish(rig.topics.device_inbox("pi", sender), chunk)
        wait_until(lambda: device.agent.node.refused == refused + 2, 10, "two refused parts")
        part = device.models / f"{sha256}.part"
        assert not part.exists() or part.stat().st_size == 0, "nothing of it was written"
        # Two at once: the second has to wait for the end of the first.
        assert "another update" in command(device, sha256="cd" * 32, bytes=5,
                                           **{"from": worker.id})["error"]
        worker.resume()
        assert device.wait_for_event("model")["bundle"] == sha256


def test_a_worker_that_dies_half_way_is_gone_on_with(tmp_path, made):
    with Rig(tmp_path, proxied=True) as rig:
        worker = rig.worker()
        with updated_device(rig, made["old"], cut=None) as device:
            device.wait_until_ready()
            rig.proxy.throttle(100_000)
            process = deploy(rig, made["new"], worker)
            sha256, size = sha_of(made["new"]), made["new"].stat().st_size
            part = device.models / f"{sha256}.part"
            wait_until(lambda: part.exists() and part.stat().st_size >= PART_BYTES, 30,
                       "the first part")
            worker.kill()
            held = part.stat().st_size
            assert PART_BYTES <= held < size
            rig.proxy.throttle(None)
            worker.start()
            code, said = ended(process)
            assert code == 0, said
            assert device.in_force == sha256 and not part.exists()
        asked = [line for line in worker.log().splitlines() if "event=bundle-asked" in line]
        offsets = [int(line.split("from_byte=")[1].split()[0]) for line in asked]
        assert len(offsets) == 2 and offsets[0] == 0 and offsets[1] >= PART_BYTES, asked


def test_a_full_disk_is_said_before_and_while_it_fills(rig, made, tmp_path):
    disk = tmp_path / "state-pi"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    worker = rig.worker()
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
        device = stack.enter_context(updated_device(rig, made["old"]))
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 65 and "free in" in said and "there are" in said
        # As if others had filled it meanwhile.
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        plenty = shutil.disk_usage("/")._replace(free=1 << 40)
        monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: plenty)
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 65 and "No space left on device" in said
        assert models_of(device) == [], "what was written is given back"
        assert device.in_force == sha_of(made["old"])
        with device.feeding(10):
            device.wait_for_frames(5, 10)


def test_a_worker_that_stays_away_is_given_up(rig, made, monkeypatch):
    monkeypatch.setattr(fetch.Fetch.__init__, "__kwdefaults__",
                        fetch.Fetch.__init__.__kwdefaults__ | {"give_up_s": 1.0})
    with updated_device(rig, made["old"], cut=None) as device:
        assert "worker nobody has sent nothing for 1 s" in refusal(device, "ab" * 32, "nobody", 99)
        assert command(device, sha256="cd" * 32, bytes=5, **{"from": "nobody"})["status"] == "ok"


# -- what becomes of it


def test_a_model_that_fails_frames_is_rolled_back_and_remembered(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"], rollback_after=3) as device, device.feeding(10):
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["fragile"], worker, "--confirmed"))
        assert code == 65 and "rolled it back: 3 frames failed" in said, said
        event = device.wait_for_event("model-rolled-back")
        assert (event["bundle"], event["was"]) == (sha_of(made["old"]), sha_of(made["fragile"]))
        wait_until(lambda: device.in_force == sha_of(made["old"]), 10, "the old model")
        device.wait_for_frames(20, 10)
        ends = device.history.ends[-10:]
        assert not [e for e in ends if e.outcome == "failed"], ends
        assert device.record()["current"] is None
        code, said = ended(deploy(rig, made["fragile"], worker))
        assert code == 65 and "it was rolled back here before (3 frames failed)" in said
        code, said = ended(deploy(rig, made["fragile"], worker, "--force", "--confirmed"))
        assert code == 65 and "rolled it back" in said, "forced, it gets another trial"
        wait_until(lambda: device.in_force == sha_of(made["old"]), 10, "the old model")
    device.history.check(device.agent)


def test_frames_that_nobody_can_read_say_nothing_against_a_model(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"], rollback_after=2, trial_frames=5) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 0, said
        for _ in range(8):
            device.agent.offer({"image": np.zeros((1, 2, 2, 3), np.float32)})
            device.agent.fail_frame("camera", "no picture", 0.0)
        with device.feeding(10):
            assert device.wait_for_event("model-confirmed")["frames"] >= 5
        assert device.in_force == sha_of(made["new"])
        assert device.agent.ledger.counts["failed"] == 16


def test_frames_go_first_on_a_slow_link(tmp_path, made):
    with Rig(tmp_path, proxied=True) as rig:
        worker = rig.worker()
        with updated_device(rig, made["old"], cut=5, deadline_ms=1500) as device:
            device.wait_until_ready()
            rig.proxy.throttle(100_000)
            with device.feeding(5):
                device.wait_for_frames(10, 20)
                code, said = ended(deploy(rig, made["new"], worker))
                assert code == 0, said
            check_none_lost(device)
            remote = [e for e in device.history.ends if e.outcome == "remote"]
            # 300 kB at 100 kB/s go by meanwhile: that is 15 frames, and the worker answers them.
            assert len(device.history.ends) >= 25
            assert len(remote) >= 0.75 * len(device.history.ends), device.history.ends


def test_a_model_that_is_too_slow_here_is_refused(rig, made, monkeypatch):
    worker = rig.worker()
    monkeypatch.setattr(updater, "self_test", lambda path, **options: Report("new", 2.5))
    with updated_device(rig, made["old"], deadline_ms=2000) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 65 and "it takes 2500 ms here" in said and "at most 2000 will do" in said
        assert models_of(device) == []


def test_whoever_hears_of_an_end_may_send_the_next_at_once(rig, made):
    """A refusal must not be told while its update still counts as under way."""
    sha256 = sha_of(made["third"])
    with updated_device(rig, made["old"], cut=None) as device, Holder(rig, "h1", {}):
        answers = []

        def again(reply):
            if reply["status"] == "error":
                answers.append(reply["error"])
                if len(answers) < 20:
                    updating.request({"sha256": sha256, "bytes": 9, "from": "h1"}, again)

        updating = device.agent.on_blob_part.__self__
        updating.request({"sha256": sha256, "bytes": 9, "from": "h1"}, again)
        wait_until(lambda: len(answers) == 20, 30, "twenty refusals")
        assert all("does not hold" in answer for answer in answers), answers


def test_what_is_in_force_is_not_fetched_again(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"], cut=None) as device:
        code, said = ended(deploy(rig, made["old"], worker))
        assert code == 0 and "in force already" in said
        assert models_of(device) == [] and device.events("model-fetching") == []


def test_a_model_that_fails_and_cannot_be_replaced_ends_the_process_for_a_new_one(rig, made):
    """The record says where to go; systemd starts what exits with 1 anew."""
    worker = rig.worker()
    with updated_device(rig, made["old"], rollback_after=1) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["fragile"], worker))
        assert code == 0, said
        device.daemon.keeper._configured = device.models / "gone"
        device.offer()
        with pytest.raises(SplitError, match="cannot be replaced while it runs") as error:
            device.agent.wait()
        assert error.value.exit_code == 1
        assert device.record()["current"] is None


def test_so_it_does_while_the_next_update_is_under_way(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"], rollback_after=1, cut=None) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["fragile"], worker))
        assert code == 0, said
        device.daemon.keeper._configured = device.models / "gone"
        assert command(device, sha256="cd" * 32, bytes=5, **{"from": "nobody"})["status"] == "ok"
        device.offer()
        with pytest.raises(SplitError, match="cannot be replaced while it runs"):
            device.agent.wait()
        wait_until(lambda: device.replies()[-1].get("error") == "the agent stops; send it again",
                   10, "the reply")


def test_a_camera_that_is_missing_says_nothing_against_a_model_on_trial(rig, made):
    """It ends the process, which is started again and again until the camera is back."""
    worker = rig.worker()
    with updated_device(rig, made["old"]) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 0, said
        config = msgspec.structs.replace(device.agent.config,
                                         model=ModelConfig(str(made["old"])))
    starts = []
    for error in (SourceLost("no camera"), BundleError("it cannot run")):
        daemon = Daemon(config, None, lambda config: None)
        starts.append(daemon.keeper.record.trial.starts)
        with pytest.raises(type(error)):
            with contextlib.ExitStack() as stack:
                for part in compose(daemon):
                    if isinstance(part, updater.Updater):
                        stack.enter_context(part)
                raise error
        starts.append(daemon.keeper.record.trial.starts)
        daemon.agent.stop()
    assert starts == [1, 0, 1, 1]


def test_what_comes_into_force_is_written_down_when_no_reload_can_come_between(rig, made):
    """A reload before that has the operator's file win; one after it finds the new model."""
    worker = rig.worker()
    with updated_device(rig, made["old"]) as device:
        device.wait_until_ready()
        keeper, seen = device.daemon.keeper, []
        reconfigure = device.agent.reconfigure

        def watched(config, **how):
            seen.append(keeper.record.running)
            return reconfigure(config, **how)

        device.agent.reconfigure = watched
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 0, said
        assert seen == [sha_of(made["old"])] and keeper.record.running == sha_of(made["new"])


def test_two_models_are_kept_and_the_one_before_needs_no_fetching(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"], trial_frames=5) as device, device.feeding(10):
        device.wait_until_ready()
        for name in ("new", "third"):
            code, said = ended(deploy(rig, made[name], worker, "--confirmed"))
            assert code == 0, said
        assert models_of(device) == sorted(f"{sha_of(made[n])}.tflite" for n in ("new", "third"))
        worker.stop()
        for name, left in (("new", ["new", "third"]), ("old", [])):
            sha256 = sha_of(made[name])

            def is_in_force() -> bool:
                # The update before has not quite ended when its model is in force.
                if device.in_force != sha256:
                    command(device, sha256=sha256, bytes=1, **{"from": worker.id})
                    time.sleep(0.5)
                return device.in_force == sha256

            wait_until(is_in_force, 20, f"model {name}")
            wait_until(lambda: models_of(device) == sorted(
                f"{sha_of(made[n])}.tflite" for n in left), 10, f"files {left}")
        assert device.record()["current"] is None, "the configuration's own file"
    device.history.check(device.agent)


def test_a_model_that_the_settings_cannot_use_leaves_no_trace(rig, made, tmp_path):
    """Loaded beside the old one it is found that the fixed plan has no cut in it."""
    folder = tmp_path / "few"
    folder.mkdir()
    from split_lab.split import split_model

    few = folder / "few.split.tflite"
    few.write_bytes(split_model(made["new"].with_name("new.tflite"), cuts=(3,)))
    worker = rig.worker()
    with updated_device(rig, made["old"], cut=1) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, few, worker))
        assert code == 65 and "has no cut 1" in said, said
        assert models_of(device) == [] and device.record()["current"] is None
        assert device.in_force == sha_of(made["old"])


# -- the process


def agent_process(rig, bundle: Path, tmp_path: Path, **updates) -> subprocess.Popen:
    """`edge-agent run`, with no frames but those that come by topic."""
    lines = "\n".join(f"{k} = {json.dumps(v)}" for k, v in updates.items())
    config = tmp_path / "agent.toml"
    config.write_text(
        f'id = "pi"\nstate_dir = "{tmp_path / "state"}"\n[model]\nbundle = "{bundle}"\n'
        f'[broker]\nurl = "{rig.device_url}"\n[plan]\ncut = 1\nrung = "raw"\n'
        f'[source]\nkind = "mqtt"\n[updates]\nallow_unsigned = true\n{lines}\n')
    with (tmp_path / "agent.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "edge_agent.cli", "run", "-c", str(config)],
                                cwd=ROOT, stderr=log, stdout=log)


class _Process:
    """A device in a process of its own that is started, killed and stopped."""

    def __init__(self, rig, bundle, tmp_path, **updates):
        self.rig, self._start = rig, lambda: agent_process(rig, bundle, tmp_path, **updates)
        self.tmp_path, self.process = tmp_path, None

    def start(self) -> str:
        """Start it, wait until it is ready; the model it runs."""
        before = len(self._infos())
        self.process = self._start()
        wait_until(lambda: len(self._infos()) > before, 40, "the device's info")
        return self._infos()[-1]

    def _infos(self) -> list[str]:
        topic = self.rig.topics.device_up("pi", "info")
        return [s.record["bundle"] for s in self.rig.observer.on(topic)]

    def running(self) -> str:
        return self._infos()[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def record(self) -> dict:
        return json.loads((self.tmp_path / "state/models/current.json").read_text())

    def log(self) -> str:
        return (self.tmp_path / "agent.log").read_text()

    def events(self, kind: str) -> list[dict]:
        topic = self.rig.topics.device_up("pi", "event")
        return [s.record for s in self.rig.observer.on(topic) if s.record.get("event") == kind]


@pytest.fixture
def run(rig, tmp_path):
    """Makes a `_Process`, and ends it."""
    made = []

    def make(bundle, **updates) -> _Process:
        made.append(_Process(rig, bundle, tmp_path, **updates))
        return made[-1]

    yield make
    for process in made:
        if process.process is not None:
            process.kill()


def test_restarted_it_comes_back_with_the_new_model_and_crashing_with_the_old(rig, made, run):
    worker = rig.worker()
    device = run(made["old"], rollback_after=3)
    old, new = sha_of(made["old"]), sha_of(made["new"])
    assert device.start() == old
    code, said = ended(deploy(rig, made["new"], worker))
    assert code == 0, said
    for _ in range(4):
        # Stopped as told it may come and go: nothing is said against the model.
        assert device.stop() == 0
        assert device.record()["trial"]["starts"] == 0
        assert device.start() == new
    for starts in (1, 2, 3):
        assert device.record()["trial"]["starts"] == starts
        device.kill()
        running = device.start()
        assert running == (new if starts < 3 else old)
    wait_until(lambda: device.events("model-rolled-back"), 10, "the event")
    (event,) = device.events("model-rolled-back")
    assert (event["bundle"], event["was"]) == (old, new)
    assert "3 starts, and none came through the trial" in event["reason"]
    assert "event=model-rolled-back" in device.log()
    assert device.record()["current"] is None
    assert device.stop() == 0


def test_a_damaged_file_is_found_at_the_start(rig, made, run):
    worker = rig.worker()
    device = run(made["old"])
    device.start()
    code, said = ended(deploy(rig, made["new"], worker))
    assert code == 0, said
    device.kill()
    path = device.tmp_path / "state/models" / f"{sha_of(made['new'])}.tflite"
    data = bytearray(path.read_bytes())
    data[-100] ^= 255
    path.write_bytes(data)
    assert device.start() == sha_of(made["old"]), "one start is enough"
    wait_until(lambda: device.events("model-rolled-back"), 10, "the event")
    assert "its file is missing or damaged" in device.events("model-rolled-back")[0]["reason"]
    assert not path.exists()


def test_a_file_that_the_operator_changes_wins(rig, made, run, tmp_path):
    worker = rig.worker()
    bundle = Path(shutil.copy(made["old"], tmp_path / "mine.split.tflite"))
    device = run(bundle)
    device.start()
    code, said = ended(deploy(rig, made["new"], worker))
    assert code == 0, said
    # A reload that changes no file changes no model ...
    reloads = device.log().count("event=reloaded")
    device.process.send_signal(signal.SIGHUP)
    wait_until(lambda: device.log().count("event=reloaded") > reloads, 20, "the reload")
    assert device.running() == sha_of(made["new"])
    # ... and one that does, does.
    shutil.copy(made["third"], tmp_path / "next")
    (tmp_path / "next").replace(bundle)
    device.process.send_signal(signal.SIGHUP)
    wait_until(lambda: device.running() == sha_of(made["third"]), 20, "the operator's model")
    wait_until(lambda: device.record()["configured_sha256"] == sha_of(made["third"]), 10,
               "the record")
    assert device.record()["current"] is None
    # At a start it is the same.
    code, said = ended(deploy(rig, made["new"], worker))
    assert code == 0, said
    assert device.stop() == 0
    shutil.copy(made["old"], bundle)
    assert device.start() == sha_of(made["old"])


def test_without_a_yes_no_model_is_taken(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"], allow_unsigned=False, cut=None) as device:
        assert device.daemon.keeper is None
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 65 and "updates.public_key_file nor updates.allow_unsigned" in said
        assert not device.models.exists()


def test_deploy_says_who_does_not_answer(rig, made):
    worker = rig.worker()
    code, said = ended(deploy(rig, made["new"], worker, device_id="nobody"))
    assert code == 69 and "no device nobody below si/v1" in said


def test_it_says_so_of_the_second_device_too(rig, made):
    worker = rig.worker()
    with updated_device(rig, made["old"]) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["new"], worker, "--device", "nobody"))
        # At the end of its patience it would say that nothing was heard.
        assert code == 69 and "no device nobody below si/v1" in said, said
        assert device.in_force == sha_of(made["new"])


def test_a_worker_that_gives_nothing_says_so(rig, made, tmp_path):
    config = tmp_path / "worker.toml"
    config.write_text("[store]\ngive_to_devices = false\n")
    worker = rig.worker("worker-1", "-c", str(config))
    with updated_device(rig, made["old"]) as device:
        device.wait_until_ready()
        code, said = ended(deploy(rig, made["new"], worker))
        assert code == 65 and "does not hold" in said
        assert device.in_force == sha_of(made["old"])
