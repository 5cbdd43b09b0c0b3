"""The participant's HTTP door, on loopback only: health, totals, its ledger, the facts it is told, and what it is told to do wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from starlette.middleware.trustedhost import TrustedHostMiddleware

from participants.kit.database import is_temporary
from participants.kit.facts import FactRefusedError, NotYetError, UnknownFactError
from participants.kit.faults import LATE_S_MAX, Faults, Settings
from participants.kit.participant import Participant

LOOPBACK = "127.0.0.1"
#: Rows of the ledger that are shown at once.
ROWS_MAX = 1_000


class FaultSettings(BaseModel):
    """The body of `PUT /faults`: all of the settings; what is left out works normally, so `{}` is a participant that works."""

    model_config = ConfigDict(extra="forbid")

    stall: bool = False
    down: bool = False
    refuse: NonNegativeInt | Literal["all"] = 0
    late_s: float = Field(0.0, ge=0, le=LATE_S_MAX)
    twice: bool = False
    wrong_order: bool = False


class FactReport(BaseModel):
    """The body of `POST /facts`: something that happened. `fact_id` is its name, unique within its type; told again it is the same fact."""

    model_config = ConfigDict(extra="forbid")

    type: str
    order_id: str
    data: dict[str, Any] = Field(default_factory=dict)
    fact_id: str


def make_app(participant: Participant, faults: Faults, trouble: Callable[[], str | None]) -> FastAPI:
    """The application. `trouble` says what is wrong at the moment, or None."""
    app = FastAPI(title=f"Escrow participant {participant.name}", docs_url=None, redoc_url=None)
    # A web page in a local browser must not get here under a name of its own (DNS rebinding).
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        wrong = trouble()
        return JSONResponse({"participant": participant.name, "ok": wrong is None, "trouble": wrong}, 200 if wrong is None else 503)

    @app.get("/totals")
    def read_totals() -> dict[str, int]:
        return participant.totals()

    @app.get("/ledger")
    def read_ledger(
        after: Annotated[str, Query(max_length=256)] = "", limit: Annotated[int, Query(ge=1, le=ROWS_MAX)] = 100
    ) -> dict[str, Any]:
        return {"participant": participant.name, "rows": participant.ledger_rows(after, limit)}

    @app.get("/faults")
    def read_faults() -> dict[str, Any]:
        return faults.settings.document()

    @app.put("/faults")
    def write_faults(body: FaultSettings) -> dict[str, Any]:
        faults.set(Settings(**body.model_dump()))
        return faults.settings.document()

    @app.post("/facts", status_code=202)
    def tell_fact(body: FactReport) -> dict[str, str]:
        try:
            message_id = participant.happened(body.type, body.order_id, body.data, body.fact_id)
        except Exception as error:
            if (status := _status(error)) is None:
                raise
            raise HTTPException(status, str(error).splitlines()[0]) from error
        return {"message_id": message_id}

    return app


def _status(error: Exception) -> int | None:
    """How HTTP says that a fact was not taken; None: a bug."""
    match error:
        case UnknownFactError():
            return 404
        case FactRefusedError():
            return 409
        case ValueError():
            return 422
        case NotYetError():
            return 503
        case _ if is_temporary(error):
            return 503
        case _:
            return None


class Control:
    """A server on loopback, in a daemon thread, from construction until `close`.

    `port` 0 takes a free one. Raises: OSError when the port is taken.
    """

    def __init__(self, app: FastAPI, port: int = 0) -> None:
        self._socket = socket.create_server((LOOPBACK, port))
        self.url = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop within 2 s. Idempotent."""
        self._server.should_exit = True
        self._thread.join(2)
        self._socket.close()
