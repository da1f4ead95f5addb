"""A real browser without a window, told what to do over a pipe (the DevTools protocol).

    with Browser(tmp_path) as browser:
        page = browser.open(url, width=400)
        page.wait_for("document.querySelectorAll('tr').length > 1")
        assert page.complaints == []

Tests are skipped, saying so, where there is none.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

START_TIMEOUT_S = 60.0
# It reads commands from descriptor 3 and writes to 4.
_WITH_PIPES = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
               " os.execv(sys.argv[3], sys.argv[3:])")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--disable-sync",
          "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
          "--remote-debugging-pipe")


def browser_path() -> str:
    """Chromium's binary; skips the test when there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here; Debian has it in the package chromium")
    return found


class Browser:
    """One Chromium with a profile of its own below ``directory``."""

    def __init__(self, directory: Path):
        self._path, self._directory = browser_path(), directory
        self._changed = threading.Condition()
        self._replies: dict[int, dict] = {}
        self._pages: dict[str, Page] = {}
        self._last_id = 0

    def __enter__(self) -> Browser:
        (child_in, self._out), (self._in, child_out) = os.pipe(), os.pipe()
        log = (self._directory / "browser.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _WITH_PIPES, str(child_in), str(child_out), self._path,
                 *_FLAGS, f"--user-data-dir={self._directory / 'profile'}", "about:blank"],
                pass_fds=(child_in, child_out), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(child_in)
        os.close(child_out)
        self._reader = threading.Thread(target=self._read, name="browser", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_exc) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close", timeout_s=10.0)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)
        os.close(self._out)
        self._reader.join(10)

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """A page, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        page.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        page.call("Page.navigate", url=url)
        page.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")
        return page

    def call(self, method: str, session: str | None = None, timeout_s: float = START_TIMEOUT_S,
             **parameters) -> dict:
        """A command's result."""
        with self._changed:
            self._last_id += 1
            number = self._last_id
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data):]
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._replies, timeout_s):
                raise AssertionError(f"{method}: no reply in {timeout_s} s")
            reply = self._replies.pop(number)
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    def _read(self) -> None:
        left = b""
        with os.fdopen(self._in, "rb", buffering=0) as stream:
            while more := stream.read(1 << 16):
                *whole, left = (left + more).split(b"\0")
                for message in map(json.loads, whole):
                    with self._changed:
                        if "id" in message:
                            self._replies[message["id"]] = message
                        else:
                            self._on_event(message)
                        self._changed.notify_all()

    def _on_event(self, message: dict) -> None:
        page = self._pages.get(message.get("sessionId"))
        if page is not None:
            page.on_event(message["method"], message["params"])


class Page:
    """One tab. ``complaints``: what its console said of errors and warnings."""

    def __init__(self, browser: Browser, session: str):
        self._browser, self._session = browser, session
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []

    def call(self, method: str, **parameters) -> dict:
        return self._browser.call(method, self._session, **parameters)

    def on_event(self, method: str, parameters: dict) -> None:
        match method:
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Page.javascriptDialogOpening":
                self.dialogs.append(parameters["message"])

    def close(self) -> None:
        """A browser opens six connections to a server, and a page that listens keeps one."""
        self.call("Page.close")

    def resize(self, width: int, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)

    def value(self, expression: str):
        """What an expression of JavaScript gives."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = 30.0):
        """Until an expression is true; its value."""
        limit_s = time.monotonic() + timeout_s
        while not (value := self.value(expression)):
            if time.monotonic() > limit_s:
                raise AssertionError(f"not within {timeout_s} s: {expression}; the console says"
                                     f" {self.complaints}")
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        """One key: "Tab", "Enter"."""
        codes = {"Tab": 9, "Enter": 13}
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """What it looks like, as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole,
                         **({"clip": self._whole()} if whole else {}))["data"]
        path.write_bytes(base64.b64decode(data))

    def _whole(self) -> dict:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
