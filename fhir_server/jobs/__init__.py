"""Work apart from requests: the queue's protocol, its SQLite store, and the background process that runs it."""
