"""Installed on a clean Debian 12 with systemd as process 1: it starts, survives a reboot, and what
goes wrong is survived and said in the journal, in words.

The machine boots as Raspberry Pi OS does, without the memory cgroup.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.packaging import story
from tests.packaging.vm import Machine

pytestmark = pytest.mark.check
DROP_IN = "/run/systemd/system/edge-agent.service.d"
STATE = "/var/lib/edge-agent"


def value(machine: Machine, name: str, unit: str = "edge-agent") -> str:
    return machine.run(f"systemctl show --value -p {name} {unit}", check=True).output


def mark(machine: Machine) -> str:
    """Where the journal ends now; for `journal`. A line of our own, because systemd 252 leaves out
    the first one after a cursor that the other filters do not show."""
    return machine.run("echo mark | systemd-cat -t tests; journalctl --sync; journalctl -t tests -n 1"
                       " --show-cursor | sed -n 's/^-- cursor: //p'", check=True).output


def journal(machine: Machine, since: str, options: str = "") -> str:
    return machine.run(f"journalctl -u edge-agent -o cat --no-pager {options}"
                       f" --cursor='{since}'", check=True).output


def wait_for_words(machine: Machine, since: str, words: str, timeout_s: float) -> None:
    machine.wait_for(f"journalctl -u edge-agent -o cat --no-pager --cursor='{since}'"
                     f" | grep -F -- '{words}'", timeout_s, f"{words!r} in the journal")


def drop_in(machine: Machine, text: str) -> None:
    machine.run(f"mkdir -p {DROP_IN} && cat >{DROP_IN}/test.conf <<'E'\n{text}\nE\n"
                "systemctl daemon-reload", check=True)


def edit(machine: Machine, expression: str) -> None:
    machine.run(f"sed -i '{expression}' /etc/edge-agent/edge-agent.toml", check=True)


def keep_a_journal(machine: Machine) -> None:
    """One line a frame, from the next start on."""
    edit(machine, f'/^\\[result\\]/a journal = "{STATE}/frames.jsonl"')


# -- installed


def test_a_new_machine_gives_results_and_gives_them_again_after_a_reboot(installed):
    """The steps themselves fail when one does not work; here is what they are, and that the
    slowest emulation stays within minutes."""
    seconds = {s.name: s.seconds for s in installed.install + installed.reboot}
    print(json.dumps(seconds, indent=1))
    assert sum(s.seconds for s in installed.install) < 600
    assert seconds["reboot to a result"] < 300


def test_answers_are_right(machine):
    results = [story.next_result(machine) for _ in range(10)]
    # A picture's name ends with what is to be read in it.
    right = sum(r["source"].endswith(f"-{r['text']}.png") for r in results)
    assert right >= 8, results


def test_on_a_slower_device_the_worker_takes_its_part(machine):
    """Both ends share one machine here, where it is a toss-up who is the faster. A device at a
    third of its speed leaves no doubt."""
    quota = "systemctl set-property --runtime edge-agent CPUQuota={} CPUQuotaPeriodSec=20ms"
    machine.run(quota.format("30%"), check=True)
    try:
        results = [story.next_result(machine)]
        while results[-1]["outcome"] != "remote":
            assert len(results) < 60, f"no result of the worker: {results[-1]}"
            results.append(story.next_result(machine))
    finally:
        machine.run(quota.format(""), check=True)
    assert results[-1]["worker"] == "w1"
    assert results[-1]["source"].endswith(f"-{results[-1]['text']}.png"), results[-1]


def test_nobody_else_reads_its_state_or_secrets(machine):
    found = machine.run(
        "stat -L -c '%U %a' /etc/edge-agent /etc/edge-agent/secrets /etc/edge-agent/edge-agent.toml"
        f" /etc/cloud-worker/w1.secrets; stat -c %a /var/lib/private; stat -L -c %a {STATE}",
        check=True).output.split("\n")
    assert found == ["root 755", "root 700", "root 644", "root 700", "700", "700"]
    pid = value(machine, "MainPID")
    uid = machine.run(f"stat -c %u /proc/{pid}", check=True).output
    assert int(uid) >= 61184                 # one of systemd's for as long as it runs


def test_nothing_it_does_is_forbidden_to_it(machine):
    """Neither system calls that the filter stops, nor lines with their priority left in."""
    story.next_result(machine)
    kernel = machine.run("journalctl -k --no-pager | grep -c type=1326; "
                         "systemctl show --value -p NRestarts edge-agent cloud-worker@w1").output
    assert kernel.split() == ["0", "0", "0"]
    text = machine.run("journalctl -u edge-agent -u cloud-worker@w1 -o cat --no-pager").output
    assert "event=started" in text
    assert "<6>" not in text and "Operation not permitted" not in text


# -- and then something goes wrong


def test_killed_it_is_back(machine):
    since, pid = mark(machine), value(machine, "MainPID")
    machine.run("systemctl kill -s KILL edge-agent", check=True)
    wait_for_words(machine, since, "event=started", 120)
    story.next_result(machine)
    assert value(machine, "MainPID") != pid
    assert "code=killed, status=9/KILL" in journal(machine, since)
    assert "Scheduled restart job" in journal(machine, since)


def test_a_thread_that_hangs_is_named_and_the_service_started_again(machine):
    site = "/usr/lib/edge-agent/lib/python3.11/site-packages"
    machine.run(f"cp /mnt/stick/hang/hang.py {site}/ && echo 'import hang' >{site}/hang.pth",
                check=True)
    try:
        drop_in(machine, "[Service]\nWatchdogSec=15s\nEnvironment=HANG=inference")
        machine.run("systemctl restart edge-agent", timeout_s=120, check=True)
        story.next_result(machine)
        since, pid = mark(machine), value(machine, "MainPID")
        machine.run("for i in 1 2 3 4 5; do systemctl kill -s USR1 edge-agent; sleep 0.2; done",
                    check=True)
        wait_for_words(machine, since, "event=started", 180)
        story.next_result(machine)
        said = journal(machine, since)
        assert value(machine, "MainPID") != pid
        assert said.index("event=standing-still thread='inference'") < said.index(
            "Watchdog timeout") < said.index("Scheduled restart job")
    finally:
        machine.run(f"rm -f {site}/hang.py {site}/hang.pth")


def test_a_tail_that_hangs_is_named_and_the_worker_started_again(machine):
    site = "/usr/lib/cloud-worker/lib/python3.11/site-packages"
    folder = "/run/systemd/system/cloud-worker@w1.service.d"
    machine.run(f"cp /mnt/stick/hang/hang.py {site}/ && echo 'import hang' >{site}/hang.pth"
                f" && mkdir -p {folder} && printf '[Service]\\nWatchdogSec=15s\\nEnvironment=HANG=tail\\n'"
                f" >{folder}/test.conf && systemctl daemon-reload"
                " && systemctl restart cloud-worker@w1", timeout_s=120, check=True)
    try:
        pid, since = value(machine, "MainPID", "cloud-worker@w1"), mark(machine)
        # More than once: a signal may come to a thread that Python does not look at.
        machine.run("for i in 1 2 3 4 5; do systemctl kill -s USR1 cloud-worker@w1; sleep 0.2; done",
                    check=True)
        machine.wait_for(f"journalctl -u cloud-worker@w1 -o cat --cursor='{since}'"
                         " | grep -F 'Scheduled restart job'", 180, "the worker's end")
        said = machine.run(f"journalctl -u cloud-worker@w1 -o cat --no-pager --cursor='{since}'",
                           check=True).output
        assert said.index("event=standing-still thread='tail'") < said.index("Watchdog timeout")
        machine.wait_for("systemctl is-active cloud-worker@w1", 120, "the worker again")
        assert value(machine, "MainPID", "cloud-worker@w1") != pid
        story.next_result(machine)
    finally:
        machine.run(f"rm -rf {site}/hang.py {site}/hang.pth {folder}; systemctl daemon-reload;"
                    " systemctl restart cloud-worker@w1", timeout_s=120, check=True)


def test_a_password_reaches_the_service_and_nobody_else(machine):
    """From /etc/edge-agent/secrets, which root alone may read, through systemd's credentials."""
    secret, conf = "/etc/edge-agent/secrets/mqtt-password", "/etc/mosquitto/conf.d/test.conf"
    machine.run(f"""mosquitto_passwd -b -c /etc/mosquitto/users pi-door canary-4711
chown mosquitto /etc/mosquitto/users
cat >{conf} <<'E'
per_listener_settings true
listener 1883 127.0.0.1
allow_anonymous true
listener 1884 127.0.0.1
allow_anonymous false
password_file /etc/mosquitto/users
E
systemctl restart mosquitto
(umask 077; echo canary-4711 >{secret})
sed -i -e 's|^url = .*|url = "mqtt://127.0.0.1:1884"|' -e 's|^# username = .*|username = "pi-door"|' \
    -e 's|^# password_file = .*|password_file = "$CREDENTIALS_DIRECTORY/secrets_mqtt-password"|' \
    /etc/edge-agent/edge-agent.toml""", timeout_s=60, check=True)
    try:
        since = mark(machine)
        machine.run("systemctl restart edge-agent", timeout_s=120, check=True)
        story.next_result(machine)
        found = json.loads(machine.run("edge-agent doctor --json 2>/dev/null",
                                       timeout_s=120).output)
        states = {f["check"]: f["state"] for f in found}
        assert states["broker reached"] == "ok" and states["secrets"] == "ok", found
        machine.run(f"(umask 077; echo wrong-0815 >{secret}); systemctl restart edge-agent",
                    timeout_s=120, check=True)
        machine.wait_for("systemctl show -p StatusText edge-agent | grep -iE 'not authori|password'", 60,
                         "a status that says why")
        pid = value(machine, "MainPID")
        said = journal(machine, since) + machine.run(
            f"systemctl status edge-agent; tr '\\0' ' ' </proc/{pid}/cmdline; edge-agent config show"
            " --sources").output
        assert "canary-4711" not in said and "wrong-0815" not in said
    finally:
        machine.run(f"rm -f {secret} {conf}; systemctl restart mosquitto", timeout_s=60, check=True)


def test_a_reload_with_an_error_keeps_the_settings_from_before(machine):
    since, pid = mark(machine), value(machine, "MainPID")
    edit(machine, "s/^deadline_ms = /deadline_msec = /")
    assert machine.run("systemctl reload edge-agent").code != 0
    wait_for_words(machine, since, "event=reload-refused", 30)
    said = journal(machine, since)
    assert "unknown key frame.deadline_msec; did you mean frame.deadline_ms?" in said
    assert "the settings from before stay in force" in said
    machine.wait_for("systemctl show -p StatusText edge-agent"
                     " | grep 'settings from before in force'", 20, "a status that says so")
    story.next_result(machine)
    edit(machine, "s/^deadline_msec = .*/deadline_ms = 1500/")
    machine.run("systemctl reload edge-agent", check=True)
    wait_for_words(machine, since, "event=reloaded", 30)
    story.next_result(machine)
    assert value(machine, "MainPID") == pid


def test_settings_that_no_restart_cures_are_not_tried_again(machine):
    since = mark(machine)
    edit(machine, "s/^deadline_ms = .*/deadline_ms = 0/")
    machine.run("systemctl restart edge-agent", timeout_s=120)
    time.sleep(6)                            # three times RestartSec
    assert value(machine, "ActiveState") == "failed"
    assert value(machine, "ExecMainStatus") == "78"
    said = journal(machine, since)
    assert "frame.deadline_ms is 0" in said and "Scheduled restart job" not in said


def test_a_full_disk_stops_the_journal_and_not_the_answers(machine):
    private = "/var/lib/private/edge-agent"
    keep_a_journal(machine)
    machine.run(f"systemctl stop edge-agent && cp -a {private} /tmp/state"
                f" && mount -t tmpfs -o size=4m,mode=0700 none {private}"
                f" && cp -a /tmp/state/. {private}/", timeout_s=60, check=True)
    try:
        since = mark(machine)
        machine.run("systemctl start edge-agent", timeout_s=120, check=True)
        machine.wait_for(f"test -s {STATE}/frames.jsonl", 60, "a line for a frame")
        machine.run(f"dd if=/dev/zero of={STATE}/rubbish bs=4k; df {STATE}/ | grep 100%", check=True)
        wait_for_words(machine, since, "event=journal-failed", 120)
        [said] = [line for line in journal(machine, since, "-p err").split("\n")
                  if "event=journal-failed" in line]
        assert "frames.jsonl" in said and "No space left on device" in said
        for _ in range(3):
            story.next_result(machine)
        machine.run(f"rm {STATE}/rubbish")
        before = int(machine.run(f"stat -c %s {STATE}/frames.jsonl", check=True).output)
        machine.wait_for(f"test $(stat -c %s {STATE}/frames.jsonl) -gt {before}", 60,
                         "lines for frames again, once there is room")
        assert "Scheduled restart job" not in journal(machine, since)
    finally:
        machine.run(f"systemctl stop edge-agent; umount {private}", timeout_s=60, check=True)


def test_what_waited_for_the_broker_comes_with_its_age(machine):
    """The watcher's session stays at the broker, so that it misses nothing."""
    keep_a_journal(machine)
    machine.run("systemctl restart edge-agent", timeout_s=120, check=True)
    story.next_result(machine)
    since, pid = mark(machine), value(machine, "MainPID")
    watch = f"mosquitto_sub -i watcher -c -q 1 -t {story.RESULTS}"
    machine.run(f"{watch} -E && systemctl stop mosquitto", check=True)
    wait_for_words(machine, since, "event=link-down", 60)
    machine.wait_for("systemctl show -p StatusText edge-agent | grep 'no broker'", 30,
                     "a status that says so")
    time.sleep(15)
    last_away = json.loads(machine.run(f"tail -n 1 {STATE}/frames.jsonl", check=True).output)
    machine.run("systemctl start mosquitto", check=True)
    wait_for_words(machine, since, "event=up", 90)
    done = machine.run(f"{watch} -W 10", timeout_s=60)
    records = [json.loads(line) for line in done.output.split("\n") if line.startswith("{")]
    waited = [r for r in records if r["frame_id"] < last_away["frame_id"]]
    assert len(waited) > 3
    # The last few may have been on their way while the broker went: sent before, kept by it.
    aged = [r["age_ms"] for r in waited if "age_ms" in r]
    assert len(aged) >= len(waited) - 2 and max(aged) > 5000
    assert any("age_ms" not in r for r in records), "nothing new came"
    assert value(machine, "MainPID") == pid, "an outage of the broker is no failure"


def test_memory_has_a_ceiling_where_the_kernel_keeps_none(machine):
    machine.run("test ! -e /sys/fs/cgroup/system.slice/edge-agent.service/memory.max", check=True)
    pid = value(machine, "MainPID")
    held = machine.run(f"awk '{{print ($2 - $3) * 4096}}' /proc/{pid}/statm", check=True).output
    assert int(held) < 512 << 20
    site = "/usr/lib/edge-agent/lib/python3.11/site-packages"
    machine.run(f"cp /mnt/stick/hang/hang.py {site}/ && echo 'import hang' >{site}/hang.pth",
                check=True)
    try:
        since = mark(machine)
        drop_in(machine, "[Service]\nEnvironment=FILL_MB=520")
        machine.run("systemctl restart --no-block edge-agent", check=True)
        wait_for_words(machine, since, "event=memory-exceeded", 180)
        wait_for_words(machine, since, "Scheduled restart job", 60)
        assert "its ceiling is 512 MB (service.memory_max_mb)" in journal(machine, since)
        assert value(machine, "Result") != "oom-kill"
    finally:
        machine.run(f"rm -f {site}/hang.py {site}/hang.pth")
