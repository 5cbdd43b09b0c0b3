"""Definitions that tests of bad input begin with: the shipped ones, and one that uses every word of the language."""

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
        deadline: 10s
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
  - {step: pay_out, ask: bank, command: PayOut, done_on: PaidOut, deadline: 10s, pivot: true}
announce: {completed: LoanPaid, compensated: LoanRefused, abandoned: LoanLost}
"""

#: Each a definition that is right.
SEEDS = (*(path.read_text(encoding="utf-8") for path in sorted(DEFINITIONS.glob("*.yaml"))), EVERY_WORD)
