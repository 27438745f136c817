#!/bin/sh
# Keeps a worker running.
while true; do
    /app/worker.sh | sed -u 's/^/worker: /'
    sleep 1
done
