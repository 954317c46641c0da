"""Rollouts: a candidate takes traffic step by step, and every step is paid for with evidence.

spec       what is declared in `rollout:`
model      what is remembered: events and the state folded from them
sequences  time-uniform bounds (mean, rate, quantile), each with its paper; two_by_two of two rates
guards     a file per kind of guard: observations -> one verdict
evidence   prediction log + labels -> observations -> one verdict per guard
decide     (state, verdicts, now) -> events; pure
commands   what people ask for -> events, or a refusal
preflight  plan + traffic -> whether it can decide in time
route      state -> share of the traffic
"""
