//! The machine, by bytes alone.

use proptest::prelude::*;
use wavekeep_proto::chunk::Reason;

use super::*;
use crate::source::joulescope::testing::{Bytes, METADATA, START_ID, START_NS, float};

const CURRENT: u8 = 21;
const VOLTAGE: u8 = 22;

fn at(ms: u64) -> Moment {
    Moment {
        now: Duration::from_millis(ms),
        utc_ns: START_NS + ms as i64 * 1_000_000,
    }
}

/// Sends all it asks to, and answers each message as an instrument does.
fn talk(machine: &mut Js220, bytes: &mut Bytes, ms: u64) {
    while let Some(request) = machine.next_request(at(ms).now) {
        let mut transfer = Vec::new();
        match request {
            Request::Control(1) => {
                machine.answered(Some(0));
                transfer = bytes.identity(0x0103_0002);
            }
            Request::Control(_) => machine.answered(None),
            Request::Start => {}
            Request::Send(frame) => {
                let end = frame[4..].iter().position(|byte| *byte == 0).expect("a topic ends");
                let topic = str::from_utf8(&frame[4..4 + end]).expect("a topic is text");
                match topic {
                    "$" => {
                        for (topic, json) in METADATA {
                            transfer.extend(bytes.message(&format!("{topic}$"), 2, json.as_bytes()));
                        }
                    }
                    "c/!ping" => transfer = bytes.message("c/!pong", 10, &frame[40..48]),
                    topic => transfer = bytes.message(&format!("{topic}#"), 14, &[0; 8]),
                }
            }
        }
        machine.transfer(&transfer, 0, at(ms));
        machine.tick(at(ms)).expect("it answered");
    }
}

/// Open, with its streams switched on, and the time told.
fn started(settings: &str) -> (Js220, Bytes) {
    let (mut machine, mut bytes) = (Js220::new(), Bytes::default());
    talk(&mut machine, &mut bytes, 0);
    machine
        .start(&settings.parse().expect("they are settings"))
        .expect("they are possible");
    talk(&mut machine, &mut bytes, 0);
    machine.transfer(&bytes.time_map(START_ID, START_NS), 0, at(0));
    (machine, bytes)
}

/// The samples that were delivered, by stream and position; asserts that they tile and are right.
#[derive(Default)]
struct Delivered {
    first: Option<u64>,
    next: Option<u64>,
    samples: u64,
    missing: u64,
    gaps: Vec<Reason>,
    absent: Vec<Reason>,
}

fn deliver(machine: &mut Js220, last: bool, delivered: &mut Delivered) {
    machine
        .deliver::<()>(last, &mut |delivery| {
            match delivery {
                Delivery::Anchor { .. } => {}
                Delivery::Gap { range, reason, .. } => {
                    assert_eq!(range.start, delivered.next.unwrap_or(range.start), "I4");
                    delivered.first.get_or_insert(range.start);
                    delivered.next = Some(range.end);
                    delivered.missing += range.end - range.start;
                    delivered.gaps.push(reason);
                }
                Delivery::Samples { block, .. } => {
                    assert_eq!(block.first_sample, delivered.next.unwrap_or(block.first_sample), "I4");
                    delivered.first.get_or_insert(block.first_sample);
                    delivered.next = Some(block.first_sample + block.count);
                    for (port, column) in [CURRENT, VOLTAGE].into_iter().zip(block.columns) {
                        match column {
                            crate::source::Column::Raw(bytes) => {
                                delivered.samples += block.count;
                                let expected = (block.first_sample..block.first_sample + block.count)
                                    .flat_map(|position| float(port, position).to_le_bytes());
                                assert!(
                                    bytes.iter().copied().eq(expected),
                                    "I13: port {port} at {}",
                                    block.first_sample
                                );
                            }
                            crate::source::Column::Absent(reason) => {
                                delivered.missing += block.count;
                                delivered.absent.push(*reason);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            }
            Ok(())
        })
        .expect("nothing here fails");
}

#[test]
fn the_opening_is_the_official_one() {
    let (mut machine, mut bytes) = (Js220::new(), Bytes::default());
    let now = at(0).now;
    let control = |request| Some(Request::Control(request));
    assert_eq!(machine.next_request(now), control(2));
    assert_eq!(machine.next_request(now), None, "one after the other");
    machine.answered(Some(77));
    assert_eq!(machine.next_request(now), Some(Request::Start));
    assert_eq!(machine.next_request(now), control(1));
    machine.answered(Some(0));
    assert_eq!(machine.next_request(now), None);
    machine.transfer(&bytes.identity(0x0103_0002), 0, at(1));
    let Some(Request::Send(frame)) = machine.next_request(now) else {
        panic!("it asks for the descriptions")
    };
    assert_eq!(frame[..6], [0, 0, 44, 1 << 1, b'$', 0]);
    let Some(Request::Send(frame)) = machine.next_request(now) else {
        panic!("then a fence")
    };
    assert_eq!(
        frame[..12],
        [1, 0, 44, 1 << 1, b'c', b'/', b'!', b'p', b'i', b'n', b'g', 0]
    );
    assert!(!machine.is_idle());
    machine.transfer(&bytes.message("c/!pong", 10, &[2, 0, 0, 0, 0, 0, 0, 0]), 0, at(1));
    assert!(!machine.is_idle(), "another fence");
    machine.transfer(&bytes.message("c/!pong", 10, &[1, 0, 0, 0, 0, 0, 0, 0]), 0, at(1));
    assert!(machine.is_idle() && machine.tick(at(5_000)).is_ok());
    let identity = machine.identity().expect("it told");
    let versions = [identity.firmware, identity.hardware, identity.fpga].map(|version| version.to_string());
    assert_eq!(versions, ["1.3.2", "2.0.1", "1.3.0"]);
}

#[test]
fn silence_and_refusals_end_the_opening() {
    let mut machine = Js220::new();
    machine.next_request(at(0).now);
    assert!(machine.tick(at(1_000)).is_ok());
    let error = machine.tick(at(1_001)).expect_err("a second has passed");
    assert_eq!(error, Js220Error::NoAnswer("a connection".into()));
    machine.answered(None);
    machine.next_request(at(0).now);
    machine.next_request(at(0).now);
    machine.answered(Some(5));
    assert_eq!(machine.tick(at(0)), Err(Js220Error::Refused(5)));
    assert_eq!(machine.next_request(at(0).now), None, "nothing more is asked of it");

    let (mut machine, mut bytes) = (Js220::new(), Bytes::default());
    let mut payload = vec![1, 0, 0, 0];
    payload.extend([0, 0, 0, 2]);
    payload.resize(24, 0);
    machine.transfer(&bytes.frame(0, &payload), 0, at(0));
    assert_eq!(machine.tick(at(0)), Err(Js220Error::Protocol(2)));
}

#[test]
fn a_setting_that_is_refused_or_not_confirmed_is_named() {
    let settings = Settings::default();
    for confirmed in [Some(7i64), None] {
        let (mut machine, mut bytes) = (Js220::new(), Bytes::default());
        talk(&mut machine, &mut bytes, 0);
        machine.start(&settings).expect("the settings are possible");
        assert!(matches!(machine.next_request(at(0).now), Some(Request::Send(_))));
        assert_eq!(machine.next_request(at(0).now), None, "it waits for the confirmation");
        // Of another one: not what it waits for.
        machine.transfer(&bytes.message("s/v/ctrl#", 14, &[0; 8]), 0, at(0));
        assert_eq!(machine.next_request(at(0).now), None);
        if let Some(code) = confirmed {
            machine.transfer(&bytes.message("s/dwnN/N#", 14, &code.to_le_bytes()), 0, at(0));
            let error = machine.tick(at(0)).expect_err("it was refused");
            assert!(error.to_string().contains("s/dwnN/N (code 7)"), "{error}");
        } else {
            let error = machine.tick(at(1_001)).expect_err("it was not confirmed");
            assert!(error.to_string().contains("s/dwnN/N"), "{error}");
        }
    }
    let (mut machine, mut bytes) = started("");
    machine.transfer(&bytes.floats(CURRENT, 2, START_ID / 2..START_ID / 2 + 100), 0, at(0));
    let error = machine.tick(at(3_001)).expect_err("one signal is missing");
    assert_eq!(error, Js220Error::NoSamples("voltage".into()));
}

#[test]
fn the_time_is_told_before_anything_else() {
    let (mut machine, mut bytes) = started("");
    machine.start(&Settings::default()).expect("the settings are possible");
    let mut question = vec![3, 0, 0, 0];
    question.extend(1..=40);
    machine.transfer(&bytes.frame(0, &question), 0, at(250));
    let Some(Request::Send(frame)) = machine.next_request(at(250).now) else {
        panic!("it answers")
    };
    assert_eq!(frame[2..8], [44, 0, 3, 0, 0, 0]);
    assert_eq!(frame[8..24], question[4..20]);
    let since = i128::from(at(250).utc_ns) - 1_514_764_800_000_000_000;
    let time = ((since << 30) + 500_000_000).div_euclid(1_000_000_000) as i64;
    assert_eq!(frame[24..32], time.to_le_bytes());
    assert_eq!(frame[40..], [0; 8]);
    // An instrument that asks without end is not answered without end.
    for _ in 0..1_000 {
        machine.transfer(&bytes.frame(0, &question), 0, at(250));
    }
    assert_eq!(machine.answers.len(), limits::OUTGOING_MAX);
    assert_eq!(machine.counters().unanswered, 1_000 - limits::OUTGOING_MAX as u64);
}

#[test]
fn i4_what_is_missing_has_the_reason_that_the_host_knows() {
    let (mut machine, mut bytes) = started("statistics=off");
    let mut position = START_ID / 2;
    let mut both = |machine: &mut Js220, bytes: &mut Bytes, lost: u64, missed: u64, moment: Moment| {
        position += lost;
        bytes.lose(u16::from(lost > 0));
        for port in [CURRENT, VOLTAGE] {
            machine.transfer(&bytes.floats(port, 2, position..position + 120), missed, moment);
        }
        position += 120;
        machine.tick(moment).expect("all is well");
    };
    both(&mut machine, &mut bytes, 0, 0, at(0));
    let mut delivered = Delivered::default();
    both(&mut machine, &mut bytes, 126, 0, at(10));
    both(&mut machine, &mut bytes, 126, 3, at(20));
    // What was queued when the host missed some comes first.
    both(&mut machine, &mut bytes, 0, 3, at(1_000));
    both(&mut machine, &mut bytes, 126, 3, at(1_500));
    both(&mut machine, &mut bytes, 126, 3, at(9_000));
    // The host sleeps for an hour and a half: the lower half of the ids has wrapped twice.
    let slept_ns = 5_400_000_000_000;
    let mut awake = at(9_010);
    awake.utc_ns += slept_ns;
    both(&mut machine, &mut bytes, slept_ns as u64 / 1_000, 3, awake);
    awake.now += Duration::from_millis(5);
    both(&mut machine, &mut bytes, 126, 3, awake);
    deliver(&mut machine, true, &mut delivered);
    let (device, usb) = (Reason::DeviceOverflow, Reason::UsbOverrun);
    assert_eq!(delivered.gaps, [device, usb, usb, device, Reason::HostSuspend, device]);
    assert_eq!(delivered.missing, 5 * 126 + slept_ns as u64 / 1_000);
    let counters = machine.counters();
    assert_eq!((counters.frames_lost, counters.holes), (6, 12));
    assert!(delivered.absent.is_empty());
}

#[test]
fn samples_before_the_first_time_have_no_place() {
    let (mut machine, mut bytes) = (Js220::new(), Bytes::default());
    talk(&mut machine, &mut bytes, 0);
    machine.start(&Settings::default()).expect("the settings are possible");
    talk(&mut machine, &mut bytes, 0);
    machine.transfer(&bytes.floats(CURRENT, 2, START_ID / 2..START_ID / 2 + 100), 0, at(0));
    assert_eq!(machine.counters().samples_unplaced, 1);
    let error = machine.tick(at(3_001)).expect_err("it never tells the time");
    assert!(error.to_string().contains("time"), "{error}");
}

#[test]
fn another_rate_is_another_start() {
    let (mut machine, mut bytes) = started("");
    let mut position = START_ID / 2;
    for port in [CURRENT, VOLTAGE] {
        machine.transfer(&bytes.floats(port, 2, position..position + 100), 0, at(0));
    }
    machine.tick(at(0)).expect("all is well");
    assert_eq!(machine.shapes().map(|shapes| shapes[0].rate_hz), Some(1e6));
    machine
        .start(
            &"rate=10000,filter=sinc1,statistics=off"
                .parse()
                .expect("they are settings"),
        )
        .expect("they are possible");
    // Of the old streams: stopped, but still on its way.
    machine.transfer(&bytes.floats(CURRENT, 2, position + 100..position + 200), 0, at(0));
    assert_eq!(machine.counters().frames_unasked, 1);
    talk(&mut machine, &mut bytes, 0);
    position = START_ID / 200 + 1;
    for port in [CURRENT, VOLTAGE] {
        machine.transfer(&bytes.floats(port, 200, position..position + 100), 0, at(0));
    }
    machine.tick(at(0)).expect("all is well");
    let shape = &machine.shapes().expect("it has begun")[0];
    assert_eq!((shape.rate_hz, shape.first_sample), (1e4, position));
    let mut delivered = Delivered::default();
    deliver(&mut machine, true, &mut delivered);
    assert_eq!(delivered.next, Some(position + 100));
    machine.close();
    let requests: Vec<_> = std::iter::from_fn(|| {
        let request = machine.next_request(at(0).now);
        machine.answered(None);
        request
    })
    .collect();
    assert!(matches!(
        requests[..],
        [Request::Send(_), Request::Send(_), Request::Control(2)]
    ));
}

/// Both signals, 100 samples more of each; answers where they are then.
fn stream(machine: &mut Js220, bytes: &mut Bytes, position: &mut u64) -> u64 {
    for port in [CURRENT, VOLTAGE] {
        machine.transfer(&bytes.floats(port, 2, *position..*position + 100), 0, at(0));
    }
    machine.tick(at(0)).expect("all is well");
    *position += 100;
    *position
}

fn change(machine: &mut Js220, key: &str, word: &str) {
    let planned = machine.plan_change(&Settings::default(), key, word);
    machine.change(planned.expect("it is possible").1, at(2_000).now);
}

/// The topic of what it sends next.
fn topic_sent(machine: &mut Js220) -> Option<String> {
    let Some(Request::Send(frame)) = machine.next_request(at(0).now) else {
        return None;
    };
    let end = frame[4..].iter().position(|byte| *byte == 0).expect("a topic ends");
    Some(String::from_utf8_lossy(&frame[4..4 + end]).into_owned())
}

#[test]
fn i13_a_change_while_it_streams_has_its_sample_and_ends_nothing() {
    let (mut machine, mut bytes) = started("statistics=off");
    let mut position = START_ID / 2;
    stream(&mut machine, &mut bytes, &mut position);
    let confirm = |machine: &mut Js220, bytes: &mut Bytes, topic: &str, code: i64| {
        machine.transfer(&bytes.message(&format!("{topic}#"), 14, &code.to_le_bytes()), 0, at(0));
    };
    change(&mut machine, "current_range", "18 mA");
    assert_eq!(topic_sent(&mut machine).as_deref(), Some("s/i/range/mode"));
    assert_eq!(topic_sent(&mut machine), None, "one after the other");
    stream(&mut machine, &mut bytes, &mut position);
    confirm(&mut machine, &mut bytes, "s/i/range/mode", 0);
    assert_eq!(machine.changed(), None, "that is half of it");
    assert_eq!(topic_sent(&mut machine).as_deref(), Some("s/i/range/select"));
    let newest = stream(&mut machine, &mut bytes, &mut position);
    // What comes in the same transfer comes after it.
    let mut transfer = bytes.message("s/i/range/select#", 14, &[0; 8]);
    transfer.extend(bytes.floats(CURRENT, 2, position..position + 100));
    transfer.extend(bytes.floats(VOLTAGE, 2, position..position + 100));
    position += 100;
    machine.transfer(&transfer, 0, at(0));
    assert_eq!((machine.changed(), machine.changed()), (Some(Ok(newest)), None));

    change(&mut machine, "current_range", "18 mA");
    assert!(topic_sent(&mut machine).is_some());
    confirm(&mut machine, &mut bytes, "s/i/range/mode", 7);
    let refusal = machine.changed().expect("it is over").expect_err("it was refused");
    assert!(refusal.to_string().contains("s/i/range/mode (code 7)"), "{refusal}");
    assert_eq!(topic_sent(&mut machine), None, "the rest is left out");

    change(&mut machine, "voltage_range", "2 V");
    assert!(topic_sent(&mut machine).is_some());
    assert!(machine.tick(at(2_000)).is_ok() && machine.changed().is_none());
    machine.tick(at(2_001)).expect("the capture goes on");
    let silence = machine
        .changed()
        .expect("it is over")
        .expect_err("it was not confirmed");
    assert!(silence.to_string().contains("s/v/range/mode"), "{silence}");
    // Too late.
    confirm(&mut machine, &mut bytes, "s/v/range/mode", 0);
    assert!(machine.changed().is_none() && machine.is_idle());

    stream(&mut machine, &mut bytes, &mut position);
    let mut delivered = Delivered::default();
    deliver(&mut machine, true, &mut delivered);
    let (first, next) = (delivered.first.expect("some"), delivered.next.expect("some"));
    assert_eq!((next, delivered.samples), (position, 2 * (next - first)));
    assert_eq!(delivered.missing, 0);
}

/// What happens to a frame on its way.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    Lost,
    Twice,
    AfterTheNext,
}

fn fates() -> impl Strategy<Value = Vec<(u64, Fate, bool)>> {
    let fate = prop_oneof![
        8 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        1 => Just(Fate::Twice),
        1 => Just(Fate::AfterTheNext),
    ];
    proptest::collection::vec((1u64..=126, fate, any::<bool>()), 4..120)
}

proptest! {
    #[test]
    fn i4_i13_whatever_is_lost_repeated_or_late_the_rest_is_right(fates in fates(), phase in 0u64..9) {
        let (mut machine, mut bytes) = started("statistics=off");
        // The lower half of the ids wraps within the test.
        let start = (START_ID + 0xf000) / 2;
        let mut ends = [start + phase, start];
        let (mut later, mut delivered) = (Vec::new(), Delivered::default());
        // What has to come out: all that does not come after a later one of its signal.
        let (mut arrived, mut newest) = (Vec::new(), [0u64; 2]);
        for (place, (count, fate, is_voltage)) in fates.into_iter().enumerate() {
            let signal = usize::from(is_voltage);
            let range = ends[signal]..ends[signal] + count;
            ends[signal] = range.end;
            let frame = (signal, range.clone(), bytes.floats([CURRENT, VOLTAGE][signal], 2, range));
            let mut frames = match fate {
                Fate::Arrives => vec![frame],
                Fate::Twice => vec![frame.clone(), frame],
                Fate::Lost => Vec::new(),
                Fate::AfterTheNext => {
                    later.push(frame);
                    Vec::new()
                }
            };
            if !frames.is_empty() {
                frames.append(&mut later);
            }
            for (signal, range, _) in &frames {
                if range.start >= newest[*signal] {
                    newest[*signal] = range.end;
                    arrived.extend(range.clone());
                }
            }
            let transfer: Vec<u8> = frames.into_iter().flat_map(|(_, _, bytes)| bytes).collect();
            machine.transfer(&transfer, 0, at(place as u64));
            machine.tick(at(place as u64)).expect("all is well");
            deliver(&mut machine, false, &mut delivered);
        }
        deliver(&mut machine, true, &mut delivered);
        let all = delivered.first.unwrap_or(0)..delivered.next.unwrap_or(0);
        prop_assert_eq!(delivered.samples, arrived.iter().filter(|position| all.contains(position)).count() as u64);
        let counters = machine.counters();
        prop_assert_eq!(counters.samples_unplaced + counters.samples_odd + counters.samples_late, 0);
    }

    #[test]
    fn i12_arbitrary_transfers_never_panic_nor_pile_up(
        transfers in proptest::collection::vec(
            (proptest::collection::vec((0u8..32, any::<[u8; 8]>(), proptest::collection::vec(any::<u8>(), 0..200)), 1..8), 0u64..3_000, any::<u8>()),
            1..40,
        ),
    ) {
        let (mut machine, mut bytes) = started("signals=all,statistics=1000");
        let mut ms = 0;
        for (frames, passed, missed) in transfers {
            ms += passed;
            let mut transfer = Vec::new();
            for (port, head, data) in frames {
                transfer.extend(bytes.frame(port, &[&head[..], &data].concat()));
                transfer.extend(bytes.samples(port, START_ID + u64::from(head[0]) * 1_000, &data));
            }
            machine.transfer(&transfer, missed.into(), at(ms));
            let _ = machine.tick(at(ms));
            machine.deliver::<()>(false, &mut |_| Ok(())).expect("nothing here fails");
            prop_assert!(machine.answers.len() <= limits::OUTGOING_MAX && machine.metadata.len() <= limits::TOPICS_MAX);
        }
        let counters = machine.counters();
        prop_assert!(counters.frames > 0);
    }
}
