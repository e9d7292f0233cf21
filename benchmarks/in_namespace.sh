#!/bin/sh
# What Open MPI calls in place of ssh: start a command on the node with that address.
node=$1
shift
exec nsenter --net="/run/netns/$NAMESPACES$node" sh -c "$*"
