"""A worker that finishes its job when it is told to stop, and says so."""
import signal
import sys
import time

stopping = False


def stop(signum, frame):
    global stopping
    stopping = True
    print("stopping: finishing the job in hand", flush=True)


signal.signal(signal.SIGTERM, stop)
job = 0
while not stopping:
    job += 1
    print(f"job {job} begun", flush=True)
    time.sleep(1.5)
    print(f"job {job} done", flush=True)
print(f"goodbye after {job} jobs", flush=True)
sys.exit(0)
