#!/bin/sh
# Make a standby the primary. First make sure that the old primary is dead, or cannot be reached by anyone: `pg_ctl -m immediate stop`,
# power, or network. Escrow's processes refuse it when it comes back; others may not.
#   promote.sh DATA
# The new primary waits for no standby until rejoin.sh or standby.sh gives it one: orders go on, on one copy.
set -eu
[ $# -eq 1 ] || { echo "usage: promote.sh DATA" >&2; exit 2; }
data=$1 settings=$1/postgresql.auto.conf
PATH=${PGBIN:+$PGBIN:}$PATH
[ -e "$data/standby.signal" ] || { echo "$data is no standby, and left as it is. Fix: give the data directory of the standby." >&2; exit 1; }

promote() {
    pg_ctl -D "$data" reload >/dev/null && pg_ctl -D "$data" -w -t 60 promote >/dev/null
}
cp -p "$settings" "$settings.before"
# Its configuration came from the old primary, which waited for the standby that this one was. The last entry of a name counts.
echo "synchronous_standby_names = ''" >>"$settings"
if promote || [ ! -e "$data/standby.signal" ]; then
    rm "$settings.before"
    exit
fi
# Whatever becomes of it, it does not go on alone without somebody having said so.
mv "$settings.before" "$settings"
pg_ctl -D "$data" reload >/dev/null 2>&1 || true
echo "$data was not promoted: see its log. Fix: start it if it does not run, and run this again." >&2
exit 1
