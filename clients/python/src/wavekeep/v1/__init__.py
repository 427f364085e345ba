"""The messages of the wire, generated from proto/wavekeep/v1 by clients/python/generate; only this is written by hand."""
