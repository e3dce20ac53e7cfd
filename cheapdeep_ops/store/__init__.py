"""Where routers and guard meet: counters, policies, alerts and messages in SQLite or PostgreSQL."""
