"""Requests and responses: the application side. It knows no socket, no thread and no signal."""
