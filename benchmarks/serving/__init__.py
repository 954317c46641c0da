"""Model servers side by side, in one run: `make bench-serving`, `make bench-soak`.

models     the two models that every server serves, made with a seed
payloads   requests as bytes in each server's dialect, and what the answers must say
load       the load generator: closed and open loop, HTTP/1.1 and gRPC
stats      percentiles, medians and ratios
envs       an environment for each peer
process    servers pinned, watched, measured, and gone with whoever started them
catalogue  who takes part, and how each is started
plan       what is measured: every cell of every server, and what a run has found
measure    doing it: interleaved repeats
tables     what was found, as tables and as targets held or missed
report     on the terminal, as JSON, the section and chart of docs/benchmarks.md
stages     where our microseconds go
soak       minutes at full rate: memory flat, nothing lost
"""
