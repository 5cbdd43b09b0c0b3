#!/bin/sh
# Make an old primary a synchronous standby of the present one: what it alone had committed is undone (no one was told of it).
#   rejoin.sh DATA PORT NAME PRIMARY
# DATA: its old data directory; the server is stopped if it runs. The rest is as for standby.sh.
# Refused, before anything is touched, unless DATA is a copy of PRIMARY's database that was left behind on a lower timeline: pg_rewind would
# undo the present primary, too, back to the promotion.
# When pg_rewind cannot (the WAL back to the promotion is gone), it says so: move DATA away and use standby.sh.
set -eu
[ $# -eq 4 ] || { echo "usage: rejoin.sh DATA PORT NAME PRIMARY" >&2; exit 2; }
data=$1 port=$2 name=$3 primary=$4
here=$(dirname "$0")
PATH=${PGBIN:+$PGBIN:}$PATH
ask() { psql -XAtq -v ON_ERROR_STOP=1 -d "$primary dbname=postgres" -c "$1"; }
refuse() {
    echo "$data is left as it is: $1" >&2
    exit 1
}

# $1: how pg_controldata calls it.
control() { LC_ALL=C pg_controldata "$data" | sed -n "s/^$1: *//p"; }

# A promotion leaves a file that is named after its timeline at once; the control file tells it only after a checkpoint.
timeline_of_data() {
    newest=$(control "Latest checkpoint's TimeLineID")
    for history in "$data"/pg_wal/*.history; do
        [ -e "$history" ] || continue
        begun=$((0x$(basename "$history" .history)))
        [ "$begun" -le "$newest" ] || newest=$begun
    done
    echo "$newest"
}

present=$(ask "SELECT system_identifier FROM pg_control_system()") &&
    timeline=$(ask "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int") ||
    refuse "'$primary' does not answer as a primary. Fix: give the server that was promoted as PRIMARY."
[ "$(control 'Database system identifier')" = "$present" ] ||
    refuse "it is no copy of the database of '$primary'. Fix: give the directory of the old primary as DATA, or make a standby with standby.sh."
left=$(timeline_of_data)
[ "$left" -lt "$timeline" ] ||
    refuse "it is on timeline $left, and '$primary' on $timeline: the present primary is on a higher one than the old one.
Fix: give the old primary as DATA, and the one that was promoted as PRIMARY. If DATA is a standby of PRIMARY already: start it, and
require.sh $name '$primary'. If both were promoted, or an earlier run broke off: move the DATA to give up away, and use standby.sh."

# One that is just dying of a kill is gone a moment later.
if pg_ctl -D "$data" status >/dev/null; then
    pg_ctl -D "$data" -m fast -w -t 60 stop >/dev/null || ! pg_ctl -D "$data" status >/dev/null
fi
"$here/slot.sh" "$name" "$primary"
# It looks for the fork in the control file of the present primary, which tells the new timeline only after a checkpoint.
ask CHECKPOINT
# A server that was killed is recovered by pg_rewind itself. -R tells it whom to follow.
pg_rewind -D "$data" -R --source-server="$primary dbname=postgres application_name=$name" >/dev/null
# Its own slots are those of standbys that follow another now, and would keep WAL. pg_rewind leaves them when there was nothing to undo.
rm -rf "$data"/pg_replslot/*
# pg_rewind copied the other's files: its port, and where it listens.
cat >>"$data/postgresql.conf" <<CONF
port = $port
listen_addresses = '${DEPLOY_PG_LISTEN:-127.0.0.1}'
CONF
cat >>"$data/postgresql.auto.conf" <<CONF
primary_slot_name = '$name'
CONF
pg_ctl -D "$data" -l "$data.log" -w -t 60 start >/dev/null
"$here/require.sh" "$name" "$primary"
