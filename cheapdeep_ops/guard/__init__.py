"""The guard: watches the counters, tells Slack, raises thresholds, and lets go again."""
