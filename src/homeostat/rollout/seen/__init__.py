"""What a rollout has seen so far.

`records` reads the prediction log into arrays. `answers` has what either version answered, in the
order of time; `requests` what both made of each request, and its label. `evidence` is those whose
label counts, in the order in which they came to; `observations` is all of it, which guards fold.
"""
