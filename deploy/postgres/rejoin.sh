#!/bin/sh
# Make an old primary a synchronous standby of the present one: what it alone had committed is undone (no one was told of it).
#   rejoin.sh DATA PORT NAME PRIMARY
# DATA: its old data directory; the server is stopped if it runs. The rest is as for standby.sh.
# When pg_rewind cannot (the WAL back to the promotion is gone), it says so: move DATA away and use standby.sh.
set -eu
[ $# -eq 4 ] || { echo "usage: rejoin.sh DATA PORT NAME PRIMARY" >&2; exit 2; }
data=$1 port=$2 name=$3 primary=$4
here=$(dirname "$0")
PATH=${PGBIN:+$PGBIN:}$PATH

# One that is just dying of a kill is gone a moment later.
if pg_ctl -D "$data" status >/dev/null; then
    pg_ctl -D "$data" -m fast -w -t 60 stop >/dev/null || ! pg_ctl -D "$data" status >/dev/null
fi
"$here/slot.sh" "$name" "$primary"
# It looks for the fork in the control file of the present primary, which tells the new timeline only after a checkpoint.
psql -XAtq -v ON_ERROR_STOP=1 -d "$primary dbname=postgres" -c CHECKPOINT
# A server that was killed is recovered by pg_rewind itself. -R tells it whom to follow.
pg_rewind -D "$data" -R --source-server="$primary dbname=postgres application_name=$name" >/dev/null
# pg_rewind copied the other's files: its port, its slots' state, and whom it waits for.
rm -rf "$data"/pg_replslot/*
cat >>"$data/postgresql.conf" <<CONF
port = $port
listen_addresses = '${DEPLOY_PG_LISTEN:-127.0.0.1}'
CONF
cat >>"$data/postgresql.auto.conf" <<CONF
primary_slot_name = '$name'
CONF
pg_ctl -D "$data" -l "$data.log" -w -t 60 start >/dev/null
"$here/require.sh" "$name" "$primary"
