"""The database that routers and guard share: counters, policies, alerts and messages in SQLite or PostgreSQL."""
