#!/bin/sh
# Works until it is told to stop, then tidies up for a second and says goodbye.
trap 'stopping=yes' TERM
stopping=
while [ -z "$stopping" ]; do
    date '+at work at %T'
    sleep 1
done
echo 'tidying up'
sleep 1
echo 'goodbye'
