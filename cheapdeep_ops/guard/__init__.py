"""The guard: evaluates rules on what routers count, has answers graded, sends alerts, and changes thresholds."""
