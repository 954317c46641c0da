"""How often rollouts decide wrongly, how soon, and beside other rules: `make bench-rollout`."""
