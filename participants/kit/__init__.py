"""The idempotent-participant kit: a ledger with tombstones, a runner, and checks that any participant can be held against."""
