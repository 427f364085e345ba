//! Whatever another program prints: standard input as lines, and as raw samples.
#![no_main]

use std::io::Cursor;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use wavekeep_agent::source::Source as _;
use wavekeep_agent::source::pipe::{PipeFormat, PipeSource, PipeSpec};
use wavekeep_agent::stop::StopToken;
use wavekeep_fuzz::{Strict, Ticking};

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let names = ["a", "b", "c"].iter().take(usize::from(first >> 6));
    let spec = PipeSpec {
        device: "fuzzed".into(),
        format: if first & 1 == 0 {
            PipeFormat::Csv
        } else {
            PipeFormat::Raw
        },
        signals: names.map(|name| ((*name).to_owned(), "V".to_owned())).collect(),
        sample_type: None,
        rate_hz: 10.0,
    };
    let (stop, clock) = (StopToken::new(), Arc::new(Ticking::default()));
    if let Ok(Some(mut source)) = PipeSource::open(Cursor::new(data.to_vec()), spec, clock, &stop)
        && let Some(mut sink) = Strict::new(&source)
    {
        let _ = source.run(&mut sink, &stop);
    }
});
