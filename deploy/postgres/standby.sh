#!/bin/sh
# Make a synchronous standby of a running primary, start it, and make the primary wait for it.
#   standby.sh DATA PORT NAME PRIMARY
# DATA must not exist. NAME: lower-case letters, digits, underscores. PRIMARY: where the primary is, as libpq takes it:
# "host=10.0.0.1 port=5432 user=postgres". From its end on every commit waits until it is on this standby's disk too.
# With one standby, commits wait while it is away; $DEPLOY_PG_STANDBYS (`s1, s2`) names all standbys when there are more: then one may be
# lost. $DEPLOY_PG_LISTEN: where it listens (127.0.0.1).
set -eu
[ $# -eq 4 ] || { echo "usage: standby.sh DATA PORT NAME PRIMARY" >&2; exit 2; }
data=$1 port=$2 name=$3 primary=$4
here=$(dirname "$0")
PATH=${PGBIN:+$PGBIN:}$PATH
[ ! -e "$data" ] || { echo "$data is there already: rejoin.sh makes an old primary a standby." >&2; exit 1; }

"$here/slot.sh" "$name" "$primary"
pg_basebackup -d "$primary application_name=$name" -D "$data" -X stream -R -S "$name" -c fast
cat >>"$data/postgresql.conf" <<CONF
port = $port
listen_addresses = '${DEPLOY_PG_LISTEN:-127.0.0.1}'
CONF
pg_ctl -D "$data" -l "$data.log" -w -t 60 start >/dev/null
"$here/require.sh" "$name" "$primary"
