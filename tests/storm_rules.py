"""A rules file whose storm rule acts within seconds."""

STORM_RULES = """
rules:
  - alert: EscalationStorm
    signal: base_escalation_rate
    limit: max_escalation_rate
    windows: {long: 10s, short: 2s}
    min_calls: 60
    min_seconds: 3
    for: 0s
    keep_firing_for: 3s
    actions: [notify, raise_threshold]
"""
