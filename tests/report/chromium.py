"""A real browser for the pages: a headless Chromium, spoken to through a pipe."""

import json
import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((path for path in map(shutil.which, NAMES) if path), None)
REASON = f"no browser is installed: one of {', '.join(NAMES)}"


class Browser:
    """One page of a browser of its own; leaves nothing running."""

    def __init__(self, profile, width=1200, height=900):
        inward, outward = os.pipe(), os.pipe()
        flags = (
            "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
            f"--disable-extensions --remote-debugging-pipe --window-size={width},{height} "
            f"--user-data-dir={profile}"
        )

        def connect():
            """The browser reads from descriptor 3 and writes to 4."""
            reading, writing = os.dup(inward[0]), os.dup(outward[1])
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [PROGRAM, *flags.split(), "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=connect,
            close_fds=False,
        )
        os.close(inward[0])
        os.close(outward[1])
        self.to, self.back = os.fdopen(inward[1], "wb"), os.fdopen(outward[0], "rb")
        self.number, self.session, self.events, self.rest = 0, None, [], b""
        [target] = [t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        found = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.to.close()
        self.back.close()

    def send(self, method, **params):
        """The answer to a command of the DevTools protocol; events are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        self.to.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        while b"\0" not in self.rest:
            self.rest += os.read(self.back.fileno(), 1 << 16)
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def open(self, address, *, dark=False, width=1200, height=900):
        """Load a page and wait until it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.events.clear()
        self.send("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def run(self, code):
        """The value of an expression on the page."""
        found = self.send(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key):
        """A key, as the keyboard sends it."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key)

    def mouse(self, kind, x, y):
        """A movement or a click of the mouse, in pixels of the window."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def complaints(self):
        """Errors that the page has told of, and what it asked for from outside."""
        entries = [e["params"]["entry"] for e in self.events if e["method"] == "Log.entryAdded"]
        told = [entry["text"] for entry in entries if entry["level"] == "error"]
        told += [
            str(e["params"]["exceptionDetails"])
            for e in self.events
            if e["method"] == "Runtime.exceptionThrown"
        ]
        asked = [
            e["params"]["request"]["url"]
            for e in self.events
            if e["method"] == "Network.requestWillBeSent"
        ]
        return told, [url for url in asked if not url.startswith(("file:", "data:"))]
