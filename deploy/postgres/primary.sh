#!/bin/sh
# Make a PostgreSQL primary that can have standbys, and start it.
#   primary.sh DATA PORT
# Run it as the user that is to own the server (never root). PostgreSQL's programs are found on PATH, or in $PGBIN.
# DATA must not exist. The superuser is `postgres`; who may come in is what $DEPLOY_PG_AUTH says: scram-sha-256, or trust for a test on
# loopback. With scram-sha-256 the password is read from the file $DEPLOY_PG_PASSWORD_FILE.
# The server listens on $DEPLOY_PG_LISTEN (127.0.0.1) and lets the standbys of $DEPLOY_PG_NETWORK (127.0.0.1/32) replicate.
set -eu
[ $# -eq 2 ] || { echo "usage: primary.sh DATA PORT" >&2; exit 2; }
data=$1 port=$2
auth=${DEPLOY_PG_AUTH:-scram-sha-256} listen=${DEPLOY_PG_LISTEN:-127.0.0.1} network=${DEPLOY_PG_NETWORK:-127.0.0.1/32}
PATH=${PGBIN:+$PGBIN:}$PATH
[ ! -e "$data" ] || { echo "$data is there already: choose another directory, or remove it." >&2; exit 1; }

set -- -D "$data" -U postgres -E UTF8 --no-locale --data-checksums -A "$auth"
[ "$auth" = trust ] || set -- "$@" --pwfile "${DEPLOY_PG_PASSWORD_FILE:?is needed: the file with the password of postgres}"
initdb "$@" >/dev/null

cat >>"$data/postgresql.conf" <<CONF
listen_addresses = '$listen'
port = $port
unix_socket_directories = ''
max_connections = 200
# An order is accepted, and a command sent, only when its commit is on the disk of the standby too (standby.sh names it).
synchronous_commit = on
# pg_rewind makes an old primary a standby again: it needs hints in the WAL, and the WAL back to the promotion.
wal_log_hints = on
wal_keep_size = '1GB'
max_wal_senders = 10
max_replication_slots = 10
hot_standby = on
# A slot of a standby that stays away must not fill the disk: such a standby is made anew.
max_slot_wal_keep_size = '10GB'
# A peer that vanished is noticed within seconds, and a standby that lost its primary is ready to be promoted.
wal_retrieve_retry_interval = '500ms'
wal_sender_timeout = '5s'
wal_receiver_timeout = '5s'
tcp_keepalives_idle = 2
tcp_keepalives_interval = 1
tcp_keepalives_count = 2
CONF
echo "host replication all $network $auth" >>"$data/pg_hba.conf"
[ "$network" = 127.0.0.1/32 ] || echo "host all all $network $auth" >>"$data/pg_hba.conf"

pg_ctl -D "$data" -l "$data.log" -w -t 60 start >/dev/null
