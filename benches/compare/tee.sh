#!/bin/bash
# An app that sends its output through a helper: tee.sh MARK HELPER…
# At SIGTERM it says its last line and exits, as an app should; the line is then the helper's.
mark=$1
shift
trap 'echo "goodbye $mark"; exit 0' TERM
exec > >(exec "$@")
echo ready
while :; do sleep 0.02; done
