#!/bin/sh
# Make a standby the primary. First make sure that the old primary is dead, or cannot be reached by anyone: `pg_ctl -m immediate stop`,
# power, or network. Escrow's processes refuse it when it comes back; others may not.
#   promote.sh DATA
# The new primary waits for no standby until rejoin.sh or standby.sh gives it one: orders go on, on one copy.
set -eu
[ $# -eq 1 ] || { echo "usage: promote.sh DATA" >&2; exit 2; }
PATH=${PGBIN:+$PGBIN:}$PATH
# Its configuration came from the old primary, which waited for the standby that this one was. The last entry of a name counts.
echo "synchronous_standby_names = ''" >>"$1/postgresql.auto.conf"
pg_ctl -D "$1" reload >/dev/null
pg_ctl -D "$1" -w -t 60 promote >/dev/null
