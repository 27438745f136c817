"""The apps of scripts/compare: what people run in containers, cut down to what is measured.

    app.py worker SECONDS MARK   at SIGTERM works on for SECONDS, says "goodbye MARK", exits
    app.py count SECONDS FILE    adds a byte to FILE for each SIGTERM, exits SECONDS after the first
    app.py idle                  exits at SIGTERM
"""

import signal
import sys
import time


def worker(seconds, mark):
    signal.sigwait([signal.SIGTERM])
    time.sleep(float(seconds))
    print("goodbye", mark, flush=True)


def count(seconds, path):
    with open(path, "ab", buffering=0) as file:
        signal.sigwait([signal.SIGTERM])
        end = time.monotonic() + float(seconds)
        file.write(b"1")
        # Each is taken from the kernel at once, so that two are one only where the kernel itself makes them one.
        while (left := end - time.monotonic()) > 0:
            if signal.sigtimedwait([signal.SIGTERM], left):
                file.write(b"1")


def idle():
    signal.sigwait([signal.SIGTERM])


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
{"worker": worker, "count": count, "idle": idle}[sys.argv[1]](*sys.argv[2:])
