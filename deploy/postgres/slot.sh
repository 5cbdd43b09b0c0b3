#!/bin/sh
# Make the replication slot of a standby on its primary; one that is there stays. Called by standby.sh and rejoin.sh.
#   slot.sh NAME PRIMARY
set -eu
[ $# -eq 2 ] || { echo "usage: slot.sh NAME PRIMARY" >&2; exit 2; }
PATH=${PGBIN:+$PGBIN:}$PATH
psql -XAtq -v ON_ERROR_STOP=1 -v name="$1" "$2 dbname=postgres" >/dev/null <<'SQL'
SELECT pg_create_physical_replication_slot(:'name') WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = :'name');
SQL
