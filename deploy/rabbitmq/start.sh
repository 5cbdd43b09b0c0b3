#!/bin/sh
# Start a RabbitMQ node; the first time it is made, and joins the cluster of SEED. Three nodes, each on a machine (or a disk) of its own,
# are what quorum queues want: one may be lost.
#   start.sh HOME NAME PORT DIST_PORT SEED
# Run it as the user that is to own the node (never root). HOME: its directory, made when missing. NAME: its name, as mq1@localhost; every
# node must reach the others by the part after the @. PORT: AMQP. DIST_PORT: for the other nodes. SEED: the name of a node that is up;
# the first node of a cluster is its own seed. A node that was there before needs no seed: it knows its cluster.
# $DEPLOY_MQ_COOKIE: the file with the secret that all nodes share. $DEPLOY_MQ_LISTEN: where it listens (127.0.0.1). $DEPLOY_MQ_BIN: the
# directory of rabbitmq-server (/usr/lib/rabbitmq/bin). $DEPLOY_MQ_DISK_FREE: publishers are stopped below it (4GB). $ERL_EPMD_PORT as ever.
# Returns at once: `ctl.sh HOME await_startup` waits until it is up.
set -eu
[ $# -eq 5 ] || { echo "usage: start.sh HOME NAME PORT DIST_PORT SEED" >&2; exit 2; }
home=$1 name=$2 port=$3 dist=$4 seed=$5
listen=${DEPLOY_MQ_LISTEN:-127.0.0.1} bin=${DEPLOY_MQ_BIN:-/usr/lib/rabbitmq/bin}

# shellcheck source=/dev/null
runs() { (. "$home/environment.new" && cd "$home" && "$bin/rabbitmq-diagnostics" --quiet --node "$1" check_running >&2); }

if [ ! -e "$home/environment" ]; then
    mkdir -p "$home"
    install -m 400 "${DEPLOY_MQ_COOKIE:?is needed: the file with the secret of the cluster}" "$home/.erlang.cookie"
    echo '[].' >"$home/plugins"
    : >"$home/env.conf"
    cat >"$home/rabbitmq.conf" <<CONF
listeners.tcp.1 = $listen:$port
# A node that sees less than half of the cluster stops, so that nobody believes it. (From 4.3 on it is so without being said.)
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = $seed
disk_free_limit.absolute = ${DEPLOY_MQ_DISK_FREE:-4GB}
log.console = true
log.console.level = warning
CONF
    address=$(echo "$listen" | tr . ,)
    cat >"$home/environment.new" <<ENV
export HOME='$home' LANG=C.UTF-8
export ERL_EPMD_ADDRESS='$listen' ERL_EPMD_PORT='${ERL_EPMD_PORT:-4369}'
export RABBITMQ_NODENAME='$name' RABBITMQ_NODE_IP_ADDRESS='$listen' RABBITMQ_NODE_PORT='$port' RABBITMQ_DIST_PORT='$dist'
export RABBITMQ_CONFIG_FILE='$home/rabbitmq.conf' RABBITMQ_CONF_ENV_FILE='$home/env.conf' RABBITMQ_ENABLED_PLUGINS_FILE='$home/plugins'
export RABBITMQ_MNESIA_BASE='$home/db' RABBITMQ_LOG_BASE='$home/log' RABBITMQ_PID_FILE='$home/pid'
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='${DEPLOY_MQ_ERL_ARGS:-} -kernel inet_dist_use_interface {$address}'
ENV
    # Without its seed it would found a cluster of its own, and clients that name all nodes would be split between the two.
    if [ "$seed" != "$name" ] && ! runs "$seed"; then
        echo "$name was not started: its seed $seed does not answer as a node that is up. Fix: start $seed and wait until it is up" >&2
        echo "(ctl.sh HOME await_startup), or name another node of the cluster; all need the same secret." >&2
        exit 1
    fi
    mv "$home/environment.new" "$home/environment"
fi
# shellcheck source=/dev/null
. "$home/environment"
cd "$home"
setsid "$bin/rabbitmq-server" </dev/null >>"$home/out" 2>&1 &
