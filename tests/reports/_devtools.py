"""Chromium over the DevTools pipe: the smallest driver the report's tests need.

No port is opened and nothing is downloaded: the browser is the one on the path, started with a
fresh profile, and spoken to through two file descriptors (``--remote-debugging-pipe``).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


class Browser:
    """A running headless Chromium with one page."""

    def __init__(self, executable: str, *, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._rest = b""
        self._profile = tempfile.mkdtemp(prefix="critwin-browser-")
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        # Chromium reads descriptor 3 and writes descriptor 4; lift ours out of the way first
        high = [os.dup(fd) for fd in (to_child, from_child)]
        while min(high) < 10:
            high = [os.dup(fd) for fd in high]

        def lay_pipes() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lay_pipes,
            close_fds=False,
            start_new_session=True,
        )
        for fd in (to_child, from_child, *high):
            os.close(fd)
        targets = self._call("Target.getTargets", {}, session=None)["targetInfos"]
        page = next(t for t in targets if t["type"] == "page")
        self._session = self._call(
            "Target.attachToTarget", {"targetId": page["targetId"], "flatten": True}, session=None
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page and wait for its answer."""
        return self._call(method, params, session=self._session)

    def open(self, path: Path, *, is_scripted: bool = True) -> None:
        """Load a file and wait until it has loaded; forgets earlier events."""
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")
        if is_scripted:
            self.js("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def js(self, expression: str) -> Any:
        """Value of an expression in the page; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, down and up, as a keyboard would."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def view(self, width: int, height: int, *, scheme: str = "light", media: str = "") -> None:
        """Size of the window, colour scheme and medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def screenshot(self, path: Path, *, whole: bool = True, clip: Any = None) -> None:
        """PNG of the page."""
        params: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
        if clip is not None:
            params["clip"] = {**clip, "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **params)["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it prints on A4."""
        answer = self.call(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False
        )
        path.write_bytes(base64.b64decode(answer["data"]))

    def problems(self) -> list[str]:
        """Console errors and warnings, exceptions, policy violations and dialogs so far."""
        self.js("1")  # events that came before this answer are in
        found = []
        for event in self.events:
            name, params = event["method"], event["params"]
            if (
                name == "Runtime.exceptionThrown"
                or (name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"))
                or (name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"))
                or name == "Page.javascriptDialogOpening"
            ):
                found.append(json.dumps(event))
        return found

    def requests(self) -> list[str]:
        """Addresses asked for, other than data inside the page."""
        self.js("1")
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def wait_for(
        self, method: str, test: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The next event of this name that passes the test, or one that has come already."""
        deadline = time.monotonic() + self.timeout
        while True:
            for event in self.events:
                if event["method"] == method and test(event["params"]):
                    return event
            self._take(self._receive(deadline))

    def close(self) -> None:
        """End the browser and remove its profile."""
        with contextlib.suppress(Exception):
            self._call("Browser.close", {}, session=None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: our children only
        self._process.wait(10)
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _call(self, method: str, params: dict[str, Any], *, session: str | None) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self.timeout
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._take(answer)

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            return
        self.events.append(message)
        if message["method"] == "Page.javascriptDialogOpening":
            # an open dialog blocks the page: close it, the event remains as evidence
            self._number += 1
            close = {
                "id": self._number,
                "method": "Page.handleJavaScriptDialog",
                "params": {"accept": True},
                "sessionId": message["sessionId"],
            }
            os.write(self._write, json.dumps(close).encode() + b"\0")

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimeoutError("Chromium does not answer")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise ConnectionError("Chromium has gone")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message
