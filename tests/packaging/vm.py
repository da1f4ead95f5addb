"""A virtual machine with systemd as process 1, driven over a serial line.

    with Machine(kernel, initrd, [root_image, data_image], log) as machine:
        done = machine.run("systemctl start edge-agent")
        machine.reboot()

Software emulation: the guest runs ten to twenty times slower than the machine it is on, and
nothing on that machine is needed but qemu. The guest writes to a copy of its first disk, which is
gone at the end; the others it only reads.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Measured: 15 to 20 s when nothing else runs; CI has two cores and may be busy.
BOOT_TIMEOUT_S = 240.0
MOST_S = 3600
READY = "@ready@"
# A shell on the second serial line, made a part of the root before it boots.
CONSOLE_UNIT = f"""\
[Unit]
Description=A shell for the tests
[Service]
# Without a standard error of its own it shows no prompts.
ExecStart=/bin/sh -c 'stty raw -echo; echo {READY}; exec /bin/sh 2>/dev/null'
Environment=SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0 SYSTEMD_PAGER=cat
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
# A shell does not end when it is asked to, and the machine would wait for it.
KillSignal=SIGKILL
Restart=always
[Install]
WantedBy=multi-user.target
"""
# As Raspberry Pi OS boots: no memory cgroup, no pressure.
KERNEL_ARGUMENTS = ("root=/dev/vda rw console=ttyS0 quiet cgroup_disable=memory psi=0"
                    " systemd.show_status=0")


class MachineError(AssertionError):
    """The machine did not do what was asked in time, or ended."""


@dataclass(frozen=True)
class Done:
    """A command's end."""

    code: int
    output: str                      # both streams
    seconds: float


class Machine:
    """Running from `with` to its end. Not for several threads."""

    def __init__(self, kernel: Path, initrd: Path, disks: Sequence[Path], log: Path, *,
                 memory_mb: int = 1024):
        self._folder = tempfile.TemporaryDirectory(prefix="vm-")
        self._console = Path(self._folder.name) / "console"
        self._log = log
        root = Path(self._folder.name) / "root"
        subprocess.run(["cp", "--sparse=always", str(disks[0]), str(root)], check=True)
        self._command = [
            # It ends by itself, too, should these tests be killed.
            "timeout", str(MOST_S), "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
            "-m", str(memory_mb), "-display", "none", "-nic", "none", "-monitor", "none",
            "-kernel", str(kernel), "-initrd", str(initrd), "-append", KERNEL_ARGUMENTS,
            "-device", "virtio-rng-pci", "-serial", f"file:{log}",
            "-serial", f"unix:{self._console},server=on,wait=off", "-no-reboot",
            "-drive", f"file={root},if=virtio,format=raw,cache=unsafe"]
        for disk in disks[1:]:
            self._command += ["-drive", f"file={disk},if=virtio,format=raw,readonly=on"]
        self._commands = 0

    def __enter__(self) -> Machine:
        try:
            self._switch_on()
            self.run("systemctl is-system-running --wait", timeout_s=BOOT_TIMEOUT_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._switch_off()
        self._folder.cleanup()

    def _switch_on(self) -> None:
        self._received = bytearray()
        with self._log.with_suffix(".qemu").open("ab") as out:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=out,
                                             stderr=out)
        self._connect()
        self._read_until(READY.encode(), BOOT_TIMEOUT_S, "it did not boot")

    def _switch_off(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._socket.close()

    def _connect(self) -> None:
        limit_s = time.monotonic() + 20.0
        self._socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                return self._socket.connect(str(self._console))
            except OSError:
                if time.monotonic() > limit_s or self._process.poll() is not None:
                    raise MachineError("qemu did not start") from None
                time.sleep(0.05)

    def run(self, command: str, *, timeout_s: float = 60.0, check: bool = False) -> Done:
        """Run shell text; with ``check`` an exit code but 0 is an AssertionError."""
        self._commands += 1
        mark = f"@end{self._commands}-{os.getpid()} "
        began_s = time.monotonic()
        self._note(f"$ {command}")
        self._socket.sendall(f"( {command}\n) </dev/null 2>&1; printf '{mark}%d@' $?\n".encode())
        output = self._read_until(mark.encode(), timeout_s, command)
        code = int(self._read_until(b"@", 5.0, command))
        done = Done(code, output.decode("utf-8", "replace").strip(), time.monotonic() - began_s)
        self._note(f"{done.code} after {done.seconds:.1f} s\n{done.output[-500:]}")
        if check and done.code:
            raise MachineError(f"{command}: exit code {done.code}\n{done.output[-3000:]}")
        return done

    def wait_for(self, command: str, timeout_s: float, what: str, *, every_s: float = 0.5) -> Done:
        """Repeat ``command`` until its exit code is 0."""
        limit_s = time.monotonic() + timeout_s
        while (done := self.run(command)).code:
            if time.monotonic() > limit_s:
                raise MachineError(f"{what}: not within {timeout_s:.0f} s\n{done.output[-3000:]}")
            time.sleep(every_s)
        return done

    def reboot(self) -> None:
        """`systemctl reboot`; returns as the new shell answers. Where the guest resets itself the
        emulator ends and is started again, because after a reset of its own it was once seen to
        stand still for minutes."""
        self._socket.sendall(b"systemctl reboot\n")
        try:
            self._process.wait(BOOT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise MachineError(f"it did not shut down\n{self._last_of_log()}") from None
        self._switch_off()
        self._switch_on()

    def _read_until(self, mark: bytes, timeout_s: float, what: str) -> bytes:
        """What comes before ``mark``, which is taken away too."""
        limit_s, looked_at = time.monotonic() + timeout_s, 0
        while (at := self._received.find(mark, looked_at)) < 0:
            looked_at = max(0, len(self._received) - len(mark))
            if not select.select([self._socket], [], [], max(0.0, limit_s - time.monotonic()))[0]:
                raise MachineError(f"{what}: not within {timeout_s:.0f} s\n"
                                   f"{self._received[-2000:].decode('utf-8', 'replace')}\n"
                                   f"{self._last_of_log()}")
            piece = self._socket.recv(65536)
            if not piece:
                raise MachineError(f"{what}: the machine ended\n{self._last_of_log()}")
            self._received += piece
        before = bytes(self._received[:at])
        del self._received[:at + len(mark)]
        return before

    def _note(self, text: str) -> None:
        """What was done, beside the console's log: for whoever looks why a test failed."""
        with self._log.with_suffix(".commands").open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def _last_of_log(self) -> str:
        try:
            return self._log.read_text("utf-8", "replace")[-2000:]
        except OSError:
            return ""
