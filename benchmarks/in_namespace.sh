#!/bin/sh
# What Open MPI calls in place of ssh: start a command on the node with that address.
# Its daemons, which take each other for processes of one machine, must not share their files.
node=$1
shift
export TMPDIR="$SESSIONS/$node"
mkdir -p "$TMPDIR"
exec nsenter --net="/run/netns/$NAMESPACES$node" sh -c "$*"
