"""The serving side: sockets, connections, workers, and the shutdown this project exists for."""
