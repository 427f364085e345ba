"""What the tests share: a real server with its recordings, and a server that follows a script."""
