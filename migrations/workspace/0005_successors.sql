-- Every question about streams asks which of them were continued by a successor, after which seq.
CREATE INDEX stream_predecessor ON stream (predecessor_id, predecessor_seq) WHERE predecessor_id IS NOT NULL;
