//! An instrument of one's own in under a hundred lines: a sine of 50 Hz, sampled 10,000 times a second for two seconds.
//!
//! ```text
//! cargo run --release -p wavekeep-agent --example sine -- /tmp/sine-outbox http://127.0.0.1:7460
//! ```
//!
//! Without a server it captures all the same; the next agent on that outbox delivers.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wavekeep_agent::agent::Agent;
use wavekeep_agent::capture::CaptureOptions;
use wavekeep_agent::clock::{Clock, SystemClock};
use wavekeep_agent::connect::GrpcConnect;
use wavekeep_agent::outbox::{self, Options};
use wavekeep_agent::source::{Block, Column, Description, Sink, Source, SourceError, StreamShape};
use wavekeep_agent::stop::StopToken;
use wavekeep_agent::uplink::UplinkOptions;
use wavekeep_proto::stream::{SampleType, Signal};

const RATE_HZ: f64 = 10_000.0;
const BLOCK_SAMPLES: u64 = 100;

/// One opening of the instrument.
struct Sine;

impl Source for Sine {
    fn describe(&self) -> Description {
        let signal = Signal {
            number: 0,
            name: "voltage".into(),
            sample_type: SampleType::F32,
            unit: "V".into(),
            finite_only: true,
        };
        Description {
            device: "sine-1".into(),
            attributes: BTreeMap::from([("model".into(), "example".into())]),
            file: None,
            streams: vec![StreamShape {
                signals: vec![signal],
                rate_hz: RATE_HZ,
                first_sample: 0,
            }],
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let start = Instant::now();
        let mut first_sample = 0;
        loop {
            // A real instrument delivers when it has samples; this one waits until it would have.
            let due = start + Duration::from_secs_f64((first_sample + BLOCK_SAMPLES) as f64 / RATE_HZ);
            if stop.wait_until(due) {
                return Ok(());
            }
            let phase = |sample: u64| std::f64::consts::TAU * 50.0 * sample as f64 / RATE_HZ;
            let samples = (first_sample..first_sample + BLOCK_SAMPLES).map(|sample| phase(sample).sin() as f32);
            // Chunks, encoding, hashes, the disk, the network: none of it is this source's concern.
            let block = Block {
                first_sample,
                count: BLOCK_SAMPLES,
                columns: &[Column::F32(&samples.collect::<Vec<_>>())],
            };
            sink.samples(0, &block)?;
            first_sample += BLOCK_SAMPLES;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("give the outbox's directory, and perhaps a server's URL")?;
    let server = arguments.next().unwrap_or_else(|| "http://127.0.0.1:7460".into());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (outbox, _) = outbox::rocks::open(directory.as_ref(), Options::default(), clock.now())?;
    let connect = GrpcConnect::new(&server)?;
    let agent = Agent::start(outbox, connect, UplinkOptions::new("sine-1"), clock, None)?;
    let options = CaptureOptions {
        duration: Some(Duration::from_secs(2)),
        ..CaptureOptions::default()
    };
    println!("the capture ended: {:?}", agent.capture(Sine, options)?.join());
    let deadline = Instant::now() + Duration::from_secs(10);
    match agent.wait_until_delivered(Some(deadline), &StopToken::new()) {
        true => println!("the server has acknowledged everything"),
        false => println!("{}: they are kept in {directory}", agent.remains()),
    }
    Ok(())
}
