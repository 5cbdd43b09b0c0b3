"""Definitions that tests of bad input begin with: the shipped ones, and two that use every word of the language, one of each form."""

from __future__ import annotations

from pathlib import Path

DEFINITIONS = Path(__file__).parents[2] / "orchestrator" / "definitions"

EVERY_WORD = """\
definition: every_word
version: 1
opens_on: LoanAsked
key: loan_id
patience: 1h30m
abort_on: LoanWithdrawn
labels: [branch, kind]
steps:
  - parallel: look
    state: looking
    steps:
      - {step: score, ask: bureau, command: Score, with: [person_id], done_on: Scored, refused_on: [Unknown], deadline: 10s, harmless: true}
      - step: reserve
        ask: bank
        command: Reserve
        with: {amount: "order.amount * 2", to: "order.person_id"}
        done_on: Reserved
        done_when: event.ok == true
        set: {amount: "event.amount"}
        deadline: 10s
        patience: 20s
        retry: {attempts: 2, first: 500ms, factor: 1.5, max: 10s}
        undo: {command: Free, with: [score.points], done_on: Freed, deadline: 10s, retry: {first: 1s, max: 1m, stuck_after: 9}}
  - choose: way
    cases:
      - when: has(replies.score) && replies.score.points > 5
        steps:
          - {step: greet, ask: desk, command: Greet, done_on: Greeted, deadline: 10s, pivot: false, harmless: true}
    otherwise:
      - repeat: persuade
        steps:
          - {step: ring, state: ringing, ask: desk, command: Ring, done_on: Rung, deadline: 10s, harmless: true}
        until: replies.ring.agreed
        at_most: 3
        then: go_on
  - step: stamp
    send: on_silence
    ask: office
    command: Stamp
    done_on: Stamped
    deadline: 10s
    undo: {command: Unstamp, done_on: Unstamped, deadline: 10s}
  - {step: pay_out, ask: bank, command: PayOut, done_on: PaidOut, deadline: 10s, pivot: true}
policies:
  - {event: Stamped, in: [looking, greet], early: quarantine}
  - {event: Rung, late: quarantine, unexpected: quarantine}
announce: {completed: LoanPaid, compensated: LoanRefused, abandoned: LoanLost}
"""

EVERY_STATE = """\
definition: every_state
version: 1
opens_on: RentAsked
key: rent_id
patience: 30d
abort_on: [RentWithdrawn]
begins_in: viewing
states:
  viewing:
    ask: agent
    command: InviteToView
    with: [rent_id]
    any_of: [Viewed, ViewedAlone]
    then: scoring
    on: {Declined: not_rented}
    deadline: {after: 3d, then: not_rented}
    remind: {every: 1d, ask: agent, command: ChaseViewing, with: {who: "order.person_id"}}
    at_most: 2
  scoring:
    step: score
    ask: bureau
    command: Score
    with: [person_id]
    done_on: Scored
    done_when: event.points > 0
    set: {points: "event.points"}
    refused_on: Unknown
    deadline: 10s
    retry: {attempts: 3, first: 500ms, factor: 1.5, max: 10s}
    patience: 25s
    undo: {command: ForgetScore, done_on: ScoreForgotten, deadline: 10s, retry: {first: 1s, max: 1m, stuck_after: 9}}
    then: signing
    on_refused: viewing
    on: {OwnerCalled: {set: {called: "true"}}}
    remind: [{every: 5s, ask: agent, command: TellDelay}]
    at_most: 2
  signing:
    all_of: [TenantSigned, OwnerSigned]
    then: paying
    on:
      TenantSigned: {from: agent, undo: {ask: agent, command: TearUp, with: [rent_id], done_on: TornUp, deadline: 1h}}
      DepositPaid:
        from: bank
        order_by: number
        when: event.amount_minor >= order.deposit_minor
        undo: {command: ReturnDeposit, with: [rent_id], done_on: DepositReturned, deadline: 1h, retry: {first: 1m, max: 1h}}
      TermsChanged:
        cases:
          - {when: "event.refused == true", then: not_rented}
          - {set: {deposit_minor: "event.deposit_minor", sign_by: "event.sign_by"}}
    deadline: {at: order.sign_by, then: given_up}
  paying:
    ask: bank
    command: PayOut
    done_on: PaidOut
    refused_on: [PayOutFailed]
    deadline: 1h
    pivot: true
    then: moving_in
    on_refused: given_up
  moving_in: {on: {MovedIn: rented}, deadline: {after: 14d, then: rented}}
  rented: {outcome: completed}
  not_rented: {outcome: failed, undo: [score, DepositPaid]}
  given_up: {outcome: failed, undo: all}
policies:
  - {event: MovedIn, in: signing, early: ignore, late: note, unexpected: ignore}
announce: {rented: FlatRented, not_rented: FlatNotRented, given_up: FlatNotRented, compensated: FlatNotRented}
"""

#: Each a definition that is right.
SEEDS = (*(path.read_text(encoding="utf-8") for path in sorted(DEFINITIONS.glob("*.yaml"))), EVERY_WORD, EVERY_STATE)
