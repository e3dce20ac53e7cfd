"""The whole product against its simulators: the demonstration, and the replay of recordings."""
