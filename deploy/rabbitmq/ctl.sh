#!/bin/sh
# Run rabbitmqctl on a node of start.sh, as its user.
#   ctl.sh HOME ARGUMENT…
# For example: cluster_status; list_queues name leader members; shutdown; await_startup; forget_cluster_node NAME.
# $DEPLOY_MQ_TOOL: another tool, as rabbitmq-queues (`grow NAME all` gives a new node a copy of every quorum queue).
set -eu
[ $# -ge 2 ] || { echo "usage: ctl.sh HOME ARGUMENT…" >&2; exit 2; }
home=$1
shift
# shellcheck source=/dev/null
. "$home/environment"
cd "$home"
exec "${DEPLOY_MQ_BIN:-/usr/lib/rabbitmq/bin}/${DEPLOY_MQ_TOOL:-rabbitmqctl}" --quiet --node "$RABBITMQ_NODENAME" "$@"
