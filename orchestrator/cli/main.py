"""The command line `escrow`."""

from __future__ import annotations

from orchestrator.cli import demo, serve, up, worker
from orchestrator.cli.root import compose

app = compose({"demo": demo.command, "up": up.command, "serve": serve.command, "worker": worker.command})
