"""Drift monitors side by side: cost, false alarms and delay (`make bench-drift`)."""
