"""Reads what Wavekeep stored into NumPy: devices, streams, gaps, statistics and the samples themselves, each one verified; and
names it: runs, labels, markers.

```python
import wavekeep

with wavekeep.Client() as client:
    waveform = client.waveform(device="js220-001", signals=["current", "voltage"], start="-10s")
    stream = waveform.stream                       # the one stream that captured it
    current = stream["current"].samples            # a masked array: what is missing is masked, never joined
    energy_joule = stream.power().sum() / stream.stream.rate_hz
```

| module | what |
|---|---|
| `client` | `Client`: one method for each question |
| `waveform`, `signals` | what was read: streams, and of each signal `Samples` or `Columns` |
| `tail`, `committed`, `cursors` | chunks as they are committed, and where a reader stands |
| `runs`, `comparison` | runs, and which of two groups of them takes less |
| `catalog` | runs are made and changed, and markers added |
| `listing`, `stream`, `reasons` | devices, streams, gaps, markers, statistics |
| `selection` | what to read, as it is said and as it is sent |
| `errors` | one class for each kind of error |
| `reading`, `following`, `decoding`, `verify`, `manifest`, `drawn` | answers as they arrive, and what proves them |

# Invariants
- I14: no sample is given out before its frame hash, its column's hash (of the decoded samples) and its place in the stream's digest
  chain were checked, the manifest agrees with what came, and what came with the time asked for.
- I4: chunks tile: a missing, repeated or overlapping chunk is an error, never a silent shift.
- I9: columns tile the range, count no more samples than there are outside of the gaps, and their mean lies between min and max.
"""

from wavekeep import errors
from wavekeep.catalog import Imported, NewMember, NewRun
from wavekeep.client import Client
from wavekeep.committed import Committed
from wavekeep.comparison import Comparison, Metric, Verdict
from wavekeep.errors import Refused, Refuted, WavekeepError
from wavekeep.listing import Device, Gap, Histogram, Marker, Statistics
from wavekeep.reasons import Reason
from wavekeep.runs import Member, Run
from wavekeep.sample_types import I128, SampleType
from wavekeep.signals import Columns, Samples, Segment
from wavekeep.stream import Signal, Stream
from wavekeep.tail import Tail
from wavekeep.waveform import StreamWaveform, Waveform

__all__ = [
    "I128",
    "Client",
    "Columns",
    "Committed",
    "Comparison",
    "Device",
    "Gap",
    "Histogram",
    "Imported",
    "Marker",
    "Member",
    "Metric",
    "NewMember",
    "NewRun",
    "Reason",
    "Refused",
    "Refuted",
    "Run",
    "SampleType",
    "Samples",
    "Segment",
    "Signal",
    "Statistics",
    "Stream",
    "StreamWaveform",
    "Tail",
    "Verdict",
    "Waveform",
    "WavekeepError",
    "errors",
]
__version__ = "0.1.0"
