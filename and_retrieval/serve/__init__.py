"""The page people work in: a server on this machine, its API and its jobs."""
