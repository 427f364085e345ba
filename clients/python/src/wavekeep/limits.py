"""Every limit of the reader.

# Invariants
- What an answer makes this process keep, queue or wait for is bounded by a name in this file, or by the memory of the machine
  (`memory.py`).
"""

from typing import Final

MIB: Final = 1024 * 1024

# Of the protocol: proto/src/limits.rs.
CHUNK_SAMPLES_MAX: Final = 65_536
SAMPLE_ID_MAX: Final = 1 << 62
SEQ_MAX: Final = 1 << 62
SIGNALS_MAX: Final = 128
SAMPLE_BITS_MAX: Final = 512
NAME_BYTES_MAX: Final = 200
LABELS_MAX: Final = 64
LABEL_BYTES_MAX: Final = 1_000
MARKERS_MAX: Final = 1_000
MARKER_BYTES_MAX: Final = 256 * 1024
MARKER_KIND_MAX: Final = 65_535
MARKER_GROUP_MAX: Final = 255
RATE_HZ_MAX: Final = 1e12
MESSAGE_BYTES_MAX: Final = CHUNK_SAMPLES_MAX * SAMPLE_BITS_MAX // 8 + MARKER_BYTES_MAX + 256 * 1024 + 64 * 1024

CONNECT_SECONDS_MAX: Final = 5
"""For a connection."""
ANSWER_SECONDS_MAX: Final = 300.0
"""For an answer of one message: the server's own limit."""
KEEP_ALIVE_SECONDS: Final = 20
"""A connection on which nothing comes is asked whether it is still there."""
BACKOFF_MS_MIN: Final = 100
"""The longest first wait before a server that went away is asked again; it doubles with each failure."""
BACKOFF_MS_MAX: Final = 5_000
"""The longest of these waits."""
STREAMS_MAX: Final = 100_000
"""Streams of one answer."""
GAPS_PENDING_MAX: Final = 20_000
"""Gaps of a stream that its manifest has not named yet. The server names them at the latest after 10,000."""
COLUMNS_MAX: Final = 4_000_000
"""Columns of one answer."""
POINTS_MAX: Final = 100_000
"""Points of one question: the server's own limit."""
COMPARED_POINTS_MAX: Final = 20_000
"""Columns of a comparison: the server's own limit."""
PERCENTILES_MAX: Final = 100
"""Of one question: the server's own limit."""
HISTOGRAM_BINS_MAX: Final = 10_000
"""Bins of a histogram: the server's own limit."""
CHUNKS_DECODING_MAX: Final = 16
"""Chunks that wait to be decoded, or are: at most 64 MiB encoded."""
DECODERS_MAX: Final = 8
"""Threads that decode."""
STREAM_DIGITS_MIN: Final = 4
"""So many digits of a stream id are enough, if no other begins with them."""
GAPS_NAMED_MAX: Final = 5
"""Gaps that an error names."""
DRAWN_POINTS: Final = 2_000
"""Columns that a plot folds samples to; there are no more pixels."""
DOTTED_SAMPLES: Final = 400
"""Up to so many samples are drawn one by one, with dots: one between two gaps is seen."""
LEGEND_STREAMS: Final = 16
"""Streams that a legend names; more would leave no room for the picture."""
TITLE_DEVICES: Final = 4
"""Devices that the title of a picture names; of more it says how many."""
TITLE_LETTERS: Final = 150
"""So many fit above a picture."""
EXPORT_SAMPLES: Final = 65_536
"""Samples that are turned into text at once."""
