//! The whole source, against an instrument that is a script.

use wavekeep_proto::chunk::Reason;

use super::super::statistics::tests::block;
use super::super::testing::{Event, Kept, START_ID, START_NS, Script, bit, float};
use super::*;

const START: u64 = START_ID / 2;

fn open(script: &Script, settings: &str) -> Result<JoulescopeSource<Script>, OpenError> {
    let settings = settings.parse().expect("they are settings");
    let clock = Arc::new(script.clone());
    JoulescopeSource::open(&mut script.clone(), &Script::found(), "bench", &settings, clock)
}

fn kept(source: &JoulescopeSource<Script>) -> Kept {
    let streams = source.describe().streams;
    Kept::new(&streams.iter().map(|stream| stream.first_sample).collect::<Vec<_>>())
}

/// Transfers of both signals, 126 samples of each in turn, over these positions.
fn both(script: &Script, mut position: u64, end: u64) -> Vec<Event> {
    let mut instrument = script.lock();
    let mut events = Vec::new();
    while position < end {
        let mut transfer = Vec::new();
        for _ in 0..32 {
            let range = position..(position + 126).min(end);
            transfer.extend(instrument.bytes.floats(21, 2, range.clone()));
            transfer.extend(instrument.bytes.floats(22, 2, range.clone()));
            position = range.end;
            if position == end {
                break;
            }
        }
        events.push(Event::Transfer(transfer));
    }
    events
}

fn time_map(script: &Script, id: u64, utc_ns: i64) -> Event {
    Event::Transfer(script.lock().bytes.time_map(id, utc_ns))
}

fn floats(port: u8, range: std::ops::Range<u64>) -> Vec<u8> {
    range.flat_map(|at| float(port, at).to_le_bytes()).collect()
}

#[test]
fn i13_what_the_instrument_sends_arrives_bit_for_bit_with_its_time() {
    let script = Script::new(2);
    let mut events = vec![time_map(&script, START_ID, START_NS)];
    events.extend(both(&script, START, START + 3_000_000));
    events.push(Event::Stop);
    script.lock().streaming.extend(events);
    let mut source = open(&script, "statistics=off").expect("it opens");
    let description = source.describe();
    let attributes: Vec<_> = description
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        attributes,
        [
            "firmware=1.3.0",
            "fpga=1.3.0",
            "hardware=2.0.1",
            "model=JS220",
            "serial=001234"
        ]
    );
    assert_eq!(
        (description.streams[0].rate_hz, description.streams[0].first_sample),
        (1e6, START)
    );
    let definitions = description.definitions().expect("the description is good");
    let signals: Vec<_> = definitions[0]
        .signals
        .iter()
        .map(|signal| format!("{} {}", signal.name, signal.unit))
        .collect();
    assert_eq!(signals, ["current A", "voltage V"]);
    let mut sink = kept(&source);
    let stop = script.lock().stop.clone();
    source.run(&mut sink, &stop).expect("it was stopped");
    assert!(sink.gaps.is_empty());
    for (signal, port) in [21, 22].into_iter().enumerate() {
        assert!(
            sink.joined(0, signal) == floats(port, START..START + 3_000_000),
            "port {port}"
        );
    }
    // Once a second, at the next block that comes.
    let expected = |&(_, sample, _): &(usize, u64, i64)| START_NS + (sample - START) as i64 * 1_000;
    assert!(
        sink.anchors
            .iter()
            .all(|anchor| (anchor.2 - expected(anchor)).abs() <= 1)
    );
    assert_eq!(sink.anchors.len(), 3);
    assert_eq!(source.counters().frames_lost, 0);
    check_told(&script);
}

fn check_told(script: &Script) {
    let told: Vec<_> = script
        .lock()
        .told
        .iter()
        .map(|(topic, value)| format!("{topic} {value}"))
        .collect();
    let expected = [
        "control 2 0",
        "start 0",
        "control 1 0",
        "$ 0",
        "c/!ping 1",
        "s/dwnN/N 1",
        "s/gpi/+/dwnN/N 1",
        "s/i/ctrl 1",
        "s/v/ctrl 1",
        "s/i/ctrl 0",
        "s/v/ctrl 0",
        "control 2 0",
    ];
    assert_eq!(told, expected);
}

#[test]
fn i4_losses_and_sleep_are_gaps_with_their_reasons() {
    let script = Script::new(2);
    let hour = 3_600_000_000;
    let mut events = vec![time_map(&script, START_ID, START_NS)];
    events.extend(both(&script, START, START + 10_000));
    events.push(Event::Lose(9));
    events.extend(both(&script, START + 11_000, START + 20_000));
    events.push(Event::Lose(9));
    events.push(Event::Missed(2));
    events.extend(both(&script, START + 22_000, START + 30_000));
    events.push(Event::Quiet(Duration::from_millis(4_000)));
    events.push(Event::Sleep(Duration::from_secs(3_600)));
    events.extend(both(&script, START + 30_000 + hour, START + 40_000 + hour));
    events.push(Event::Stop);
    script.lock().streaming.extend(events);
    let mut source = open(&script, "statistics=off").expect("it opens");
    let mut sink = kept(&source);
    let stop = script.lock().stop.clone();
    source.run(&mut sink, &stop).expect("it was stopped");
    let expected = [
        (0, START + 10_000..START + 11_000, Reason::DeviceOverflow),
        (0, START + 20_000..START + 22_000, Reason::UsbOverrun),
        (0, START + 30_000..START + 30_000 + hour, Reason::HostSuspend),
    ];
    assert_eq!(sink.gaps, expected);
    assert_eq!(sink.next, [START + 40_000 + hour]);
    assert_eq!(source.counters().frames_lost, 18);
}

#[test]
fn an_unplugged_instrument_is_told_from_one_that_fell_silent() {
    let last = START + 50_000;
    for (event, expected) in [
        (Event::Unplug, GoneWhy::Usb(UsbError::Gone)),
        (Event::Quiet(Duration::from_secs(6)), GoneWhy::Silent),
    ] {
        let script = Script::new(2);
        let mut events = vec![time_map(&script, START_ID, START_NS)];
        events.extend(both(&script, START, last));
        events.push(event);
        script.lock().streaming.extend(events);
        let mut source = open(&script, "statistics=off").expect("it opens");
        let mut sink = kept(&source);
        let error = source.run(&mut sink, &StopToken::new()).expect_err("it is gone");
        let SourceError::Gone(gone) = error else {
            panic!("{error}")
        };
        assert_eq!((gone.why, gone.next_samples), (expected, vec![last]));
        assert!((gone.utc_ns - START_NS - 50_000_000).abs() <= 1, "{}", gone.utc_ns);
        assert_eq!(sink.next, [last], "all that arrived was delivered first");
    }
}

#[test]
fn digital_signals_and_statistics_are_streams_of_their_own() {
    let script = Script::new(4);
    let mut events = vec![time_map(&script, START_ID, START_NS)];
    // An odd id: digital signals need not start a byte.
    let from = START_ID + 3;
    for frame in 0..40 {
        let mut instrument = script.lock();
        let range = from + frame * 1_008..from + (frame + 1) * 1_008;
        let mut range_bytes = vec![0u8; 504];
        let mut gpi_bytes = vec![0u8; 126];
        for (place, at) in range.clone().enumerate() {
            range_bytes[place / 2] |= ((at % 11) as u8) << (place % 2 * 4);
            gpi_bytes[place / 8] |= u8::from(bit(24, at)) << (place % 8);
        }
        let mut transfer = instrument.bytes.samples(20, range.start, &range_bytes);
        // One frame of the digital input is lost.
        if frame != 7 {
            transfer.extend(instrument.bytes.samples(24, range.start, &gpi_bytes));
        }
        transfer.extend(
            instrument
                .bytes
                .floats(21, 2, START + frame * 126..START + (frame + 1) * 126),
        );
        // The third block of statistics is lost.
        if frame % 10 == 0 && frame != 20 {
            let (one, watt) = (1i64 << 31, 1i64 << 27);
            let n = frame as i64;
            let sums = [[one * n, 0, one], [one, 0, one], [watt, 0, watt]];
            let first = START_ID + frame / 10 * 2_000;
            transfer.extend(
                instrument
                    .bytes
                    .frame(30, &block(1_000, first, sums, i128::from(one) * 1_000_000, 0)),
            );
        }
        events.push(Event::Transfer(transfer));
    }
    events.push(Event::Stop);
    script.lock().streaming.extend(events);
    let mut source = open(&script, "signals=current+current_range+gpi0,statistics=1000").expect("it opens");
    let description = source.describe();
    let rates: Vec<_> = description.streams.iter().map(|stream| stream.rate_hz).collect();
    assert_eq!(rates, [1e6, 2e6, 1e3]);
    description.definitions().expect("the description is good");
    let first = from.next_multiple_of(8);
    assert_eq!(description.streams[1].first_sample, first);
    let mut sink = kept(&source);
    let stop = script.lock().stop.clone();
    source.run(&mut sink, &stop).expect("it was stopped");
    assert_eq!(sink.next[1], from + 40 * 1_008);
    check_packed(&sink, 0, 4, |at| (at % 11) as u8);
    check_packed(&sink, 1, 1, |at| u8::from(bit(24, at)));
    let lost = from + 7 * 1_008..from + 8 * 1_008;
    let absent: Vec<_> = sink.signals[1][1]
        .iter()
        .filter_map(|(range, piece)| piece.as_ref().err().map(|why| (range.clone(), *why)))
        .collect();
    assert_eq!(absent, [(lost, Reason::DeviceOverflow)]);
    assert_eq!(sink.gaps, [(2, 2..3, Reason::DeviceOverflow)]);
    assert_eq!(sink.joined(2, 0), [1.0f64; 3].map(f64::to_le_bytes).concat());
    assert_eq!(sink.joined(2, 2), [0.0, 0.01, 0.03f64].map(f64::to_le_bytes).concat());
}

fn check_packed(sink: &Kept, signal: usize, bits: usize, truth: impl Fn(u64) -> u8) {
    for (range, piece) in &sink.signals[1][signal] {
        let Ok(bytes) = piece else { continue };
        for (place, at) in range.clone().enumerate() {
            let value = bytes[place * bits / 8] >> (place * bits % 8) & ((1 << bits) - 1);
            assert_eq!(value, truth(at), "I13: signal {signal} at {at}");
        }
    }
}

#[test]
fn the_instruments_questions_are_answered_while_it_streams() {
    let script = Script::new(2);
    let mut events = vec![time_map(&script, START_ID, START_NS)];
    events.extend(both(&script, START, START + 1_000));
    let mut question = vec![3, 0, 0, 0];
    question.extend([5; 40]);
    events.push(Event::Transfer(script.lock().bytes.frame(0, &question)));
    events.extend(both(&script, START + 1_000, START + 2_000));
    events.push(Event::Stop);
    script.lock().streaming.extend(events);
    let mut source = open(&script, "statistics=off").expect("it opens");
    let mut sink = kept(&source);
    let stop = script.lock().stop.clone();
    source.run(&mut sink, &stop).expect("it was stopped");
    let answers = &script.lock().answers;
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].len(), &answers[0][..20]), (44, &question[..20]));
}

#[test]
fn what_does_not_open_says_why_and_is_left_disconnected() {
    let script = Script::new(2);
    script.lock().refused = Some(("s/v/ctrl", 6));
    let error = open(&script, "statistics=off").err().expect("it refuses");
    assert!(error.to_string().contains("s/v/ctrl (code 6)"), "{error}");
    assert_eq!(
        script.lock().told.last().map(|(topic, _)| topic.clone()),
        Some("control 2".into())
    );
    let script = Script::new(2);
    script.lock().mute = Some("s/i/ctrl");
    let error = open(&script, "statistics=off").err().expect("it does not answer");
    assert!(error.to_string().contains("s/i/ctrl"), "{error}");
    let mut script = Script::new(2);
    let error = open(&script, "voltage_range=3 V").err().expect("it has no such range");
    assert!(error.to_string().contains("15 V, 2 V"), "{error}");
    let mut other = Script::found();
    other.product = 0x0e88;
    let clock = Arc::new(script.clone());
    let opened = JoulescopeSource::open(&mut script, &other, "bench", &Settings::default(), clock);
    assert_eq!(opened.err(), Some(OpenError::Product(0x0e88)));
}

#[test]
fn i13_settings_change_while_it_is_captured_and_each_is_noted_at_its_sample() {
    const TRANSFER: u64 = 32 * 126;
    let script = Script::new(2);
    let mut events = vec![time_map(&script, START_ID, START_NS)];
    events.extend(both(&script, START, START + 2 * TRANSFER));
    events.push(Event::Ask(&[("power", "off"), ("gpo0", "1")]));
    events.extend(both(&script, START + 2 * TRANSFER, START + 4 * TRANSFER));
    events.push(Event::Ask(&[("vref", "3v3"), ("voltage_range", "3 V")]));
    events.push(Event::Ask(&[("rate", "1000")]));
    events.extend(both(&script, START + 4 * TRANSFER, START + 8 * TRANSFER));
    events.push(Event::Ask(&[("gpo1", "1")]));
    events.push(Event::Stop);
    script.lock().streaming.extend(events);
    let mut source = open(&script, "statistics=off,voltage_range=2 V").expect("it opens");
    let controls = source.controls().expect("it has some");
    script.lock().controls = Some(Arc::clone(&controls));
    let mut sink = kept(&source);
    let stop = script.lock().stop.clone();
    source.run(&mut sink, &stop).expect("it was stopped");
    let notes: Vec<_> = sink
        .markers
        .iter()
        .map(|(stream, marker)| (*stream, marker.sample, String::from_utf8_lossy(&marker.content)))
        .collect();
    // Each is sent with the next transfer, and confirmed after it.
    let expected = [
        (0, START + 3 * TRANSFER, "settings gpo0=1".into()),
        (0, START + 4 * TRANSFER, "settings power=off".into()),
    ];
    assert_eq!(notes, expected);
    assert!(sink.gaps.is_empty());
    assert_eq!(sink.joined(0, 0), floats(21, START..START + 8 * TRANSFER));
    let told: Vec<_> = script.lock().told.clone();
    for (topic, value) in [("s/gpo/+/!set", 1), ("s/i/range/mode", 2)] {
        assert!(told.contains(&(topic.to_owned(), value)), "{told:?}");
    }
    assert!(
        told.iter().all(|(topic, _)| topic != "c/gpio/vref"),
        "what is not possible as a whole changes nothing: {told:?}"
    );
    let asked = std::mem::take(&mut script.lock().asked);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let mut answers = asked.into_iter().map(|asked| match runtime.block_on(asked.wait()) {
        Ok(status) => format!("{:?}", status.settings),
        Err(error) => error.to_string(),
    });
    let mut next = || answers.next().expect("each is answered");
    assert!(next().contains(r#""gpo0": "1", "power": "off", "voltage_range": "2 V""#));
    assert!(next().starts_with("bench: voltage_range=3 V is not possible: give auto, 15 V, 2 V"));
    assert!(next().contains("start it anew with --settings rate=1000"));
    assert!(next().contains("is not there just now"), "it was stopped before that");
    assert_eq!(source.settings().words().get("power").map(String::as_str), Some("off"));
}
