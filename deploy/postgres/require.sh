#!/bin/sh
# Make a primary wait for its standbys: no commit returns before it is on the disk of one of them. Called by standby.sh and rejoin.sh.
#   require.sh NAME PRIMARY
# Waits first until the standby NAME streams, for at most 60 s. $DEPLOY_PG_STANDBYS: all standbys, when there are more than NAME.
set -eu
[ $# -eq 2 ] || { echo "usage: require.sh NAME PRIMARY" >&2; exit 2; }
name=$1 primary="$2 dbname=postgres"
PATH=${PGBIN:+$PGBIN:}$PATH
ask() { psql -XAtq -v ON_ERROR_STOP=1 -d "$primary" -c "$1"; }

# $1: the column, $2: the value that it must have.
await() {
    tries=0
    until ask "SELECT $1 FROM pg_stat_replication WHERE application_name = '$name'" | grep -q "$2"; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { echo "The standby $name is not $2 after 60 s: see its log." >&2; exit 1; }
        sleep 0.2
    done
}
await state streaming
ask "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (${DEPLOY_PG_STANDBYS:-$name})'"
ask "SELECT pg_reload_conf()" >/dev/null
await sync_state quorum
