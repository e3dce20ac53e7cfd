"""Router and guard against the simulators: the demonstration, and the replay of recordings."""
