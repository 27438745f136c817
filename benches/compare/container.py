"""One run in a container's place: the PID 1 of a pid namespace, with a pipe for its log."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

# What Docker gives an app between SIGTERM and SIGKILL.
STOP_BUDGET = 10


class Container:
    """A contender with an app. `log` is what came out so far; it is read until the container is over."""

    def __init__(self, contender, app):
        self.directory = tempfile.TemporaryDirectory(prefix="compare-")
        words = contender.command(Path(self.directory.name), [str(word) for word in app])
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LASTWORD_LIFECYCLE_LINES": "off", **contender.env}
        self.log, self.ready, self.ready_at = b"", threading.Event(), 0.0
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            ["/usr/bin/unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            self.log += data
            if not self.ready.is_set() and re.search(rb"(?m)^ready$", self.log):
                self.ready_at = time.monotonic()
                self.ready.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.directory.cleanup()

    def settle(self, seconds):
        """Waits for the app's first line, and so long again."""
        if not self.ready.wait(20):
            raise RuntimeError(f"{self.process.args}: the app does not run; its log: {self.log}")
        time.sleep(seconds)

    def pid1(self):
        """Its number as we see it."""
        return children(self.process.pid)[0]

    def app(self):
        """The app's process: the last in the line of children."""
        pid = self.pid1()
        while more := [child for child in children(pid) if not is_canary(child)]:
            pid = more[0]
        return pid

    def own(self):
        """The contender's own processes."""
        return [self.pid1(), *filter(is_canary, children(self.pid1()))]

    def everybody(self):
        """All in the namespace, in ascending order."""
        ours = os.readlink(f"/proc/{self.pid1()}/ns/pid")
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/pid") == ours:
                    found.append(int(pid))
        return sorted(found)

    def over(self, seconds):
        """Whether it ends by itself within this time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is not None

    def end(self):
        """Waits for its end, kills it when the budget is over; returns the exit code that the platform sees."""
        if not self.over(STOP_BUDGET):
            os.kill(self.pid1(), signal.SIGKILL)
        code = self.process.wait()
        self.reader.join()
        return 128 - code if code < 0 else code

    def stop(self):
        """The platform's stop."""
        os.kill(self.pid1(), signal.SIGTERM)
        return self.end()


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def status(pid, field):
    """A field of /proc/PID/status."""
    return re.search(rf"(?m)^{field}:\s*(\S+)", Path(f"/proc/{pid}/status").read_text())[1]


def is_canary(pid):
    return status(pid, "Name") == "lw-canary"


def private_kib(pid):
    """Memory that nobody shares with it."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"(?m)^Private_\w+:\s*(\d+)", rollup))
