//! The instrument as a host sees it, one rule of the protocol after the other.

use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn instrument(text: &str) -> Js220 {
    Js220::new(
        crate::parse(format!("js220,{text}").trim_end_matches(','))
            .unwrap()
            .remove(0),
    )
}

/// A host that reads all frames, one transfer after the other.
struct Host {
    js220: Js220,
    now: Duration,
    out_id: u16,
}

/// Id, port and payload of a frame.
type Seen = (u16, u8, Vec<u8>);

fn frames(transfer: &[u8]) -> Vec<Seen> {
    let frame = |bytes: &[u8]| {
        let head = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        assert_eq!((head >> 16 & 0x1FF) as usize, bytes.len() - 4);
        (head as u16, (head >> 25) as u8, bytes[4..].to_vec())
    };
    transfer.chunks(512).map(frame).collect()
}

impl Host {
    fn connected(text: &str) -> Self {
        let mut host = Self {
            js220: instrument(text),
            now: 3 * MS,
            out_id: 0,
        };
        assert_eq!(host.js220.control_in(2, 0, 0, 1, host.now), Ok(vec![0]));
        assert_eq!(host.js220.control_in(1, 0, 0, 1, host.now), Ok(vec![0]));
        host
    }

    fn read(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let mut transfer = Vec::new();
            let whole = self.js220.bulk_in(&mut transfer, 32_768, self.now).unwrap();
            all.extend(frames(&transfer));
            if !whole {
                return all;
            }
        }
    }

    fn wait(&mut self, time: Duration) -> Vec<Seen> {
        let until = self.now + time;
        let mut all = Vec::new();
        while self.now < until {
            self.now += MS;
            all.extend(self.read());
        }
        all
    }

    fn send(&mut self, port: u8, payload: &[u8]) {
        let frame = [&frame::head(self.out_id, port, payload.len())[..], payload].concat();
        self.out_id += 1;
        self.js220.bulk_out(&frame, self.now).unwrap();
    }

    fn publish(&mut self, topic: &str, bits: u64) {
        self.send(1, &frame::publish_scalar(topic, "", TYPE_U32, 1, bits));
    }

    /// Publishes, and gives the code of the answer.
    fn set(&mut self, topic: &str, bits: u64) -> Option<i32> {
        self.publish(topic, bits);
        let answers = self.read();
        answers.iter().find_map(|(_, port, payload)| {
            let answer = (*port == 1).then(|| Publish::parse(payload))??;
            (answer.topic == format!("{topic}#")).then_some(answer.bits as i32)
        })
    }
}

/// The sample ids of a port's frames.
fn ids(seen: &[Seen], port: u8) -> Vec<u32> {
    seen.iter()
        .filter(|frame| frame.1 == port)
        .map(|frame| u32::from_le_bytes(frame.2[..4].try_into().unwrap()))
        .collect()
}

#[test]
fn connecting_is_answered_with_versions_then_the_time_is_asked() {
    let mut host = Host::connected("fw=1.2.3");
    let seen = host.read();
    assert_eq!((seen[0].0, seen[0].1, seen[0].2.len()), (0, 0, 24));
    assert_eq!(seen[0].2[..8], [1, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(seen[0].2[12..16], [3, 0, 2, 1]);
    let request = &seen[1].2;
    assert_eq!((seen[1].0, seen[1].1, request.len(), request[0]), (1, 0, 44, 3));
    assert_eq!(request[12..20], 6000_u64.to_le_bytes(), "3 ms of ticks");
    // The answer comes 2 ms later: half of that time is the middle.
    let utc = 5_000_000_i64 << 30;
    let mut reply = vec![3, 0, 0, 0];
    for word in [0, 6000, utc as u64, utc as u64 + 1000, 0] {
        reply.extend(word.to_le_bytes());
    }
    host.now += 2 * MS;
    host.send(0, &reply);
    let map = host.read().remove(0).2;
    assert_eq!((map.len(), map[0]), (36, 4));
    assert_eq!(map[12..20], (utc + 500).to_le_bytes());
    assert_eq!(map[20..28], 8000_u64.to_le_bytes());
    assert_eq!(map[28..36], (2_000_000_u64 << 32).to_le_bytes());
    assert!(
        host.wait(1100 * MS).iter().any(|frame| frame.2[0] == 3),
        "it asks again"
    );
}

#[test]
fn a_ping_is_a_fence_and_metadata_and_values_come_before_it() {
    let mut host = Host::connected("");
    host.read();
    host.publish("$", 0);
    host.publish("?", 0);
    host.publish("c/!ping", 9);
    let seen = host.read();
    let topics: Vec<_> = seen
        .iter()
        .map(|frame| Publish::parse(&frame.2).map(|p| p.topic.to_owned()))
        .collect();
    let last = Publish::parse(&seen.last().unwrap().2).unwrap();
    assert_eq!((last.topic, last.bits), ("c/!pong", 9));
    for topic in ["s/i/range/mode$", "s/i/range/mode?", "s/i/ctrl$", "s/i/ctrl?"] {
        assert!(topics.contains(&Some(topic.to_owned())), "{topic}");
    }
    assert!(!topics.contains(&Some("s/stats/!clear?".to_owned())));
}

#[test]
fn every_setting_is_acknowledged() {
    let mut host = Host::connected("fault=noack:1@s0");
    assert_eq!(host.set("s/i/range/mode", 5), Some(0));
    assert_eq!(host.set("s/i/range/mode", 1), Some(5));
    assert_eq!(host.set("s/nothing", 1), Some(16));
    assert_eq!(host.set("s/i/ctrl", 1), Some(0));
    assert_eq!(host.set("s/v/ctrl", 1), None, "the script says so");
    assert_eq!(host.set("s/p/ctrl", 1), Some(3), "all three at full rate are too many");
    host.publish("s/gpi/+/!req", 0);
    assert!(
        host.read()
            .iter()
            .any(|f| Publish::parse(&f.2).is_some_and(|p| p.topic == "s/gpi/+/!value"))
    );
}

#[test]
fn samples_come_after_a_time_map_and_are_those_of_the_waveform() {
    let mut host = Host::connected("seed=3,start=4294960000");
    assert_eq!(host.set("s/i/ctrl", 1), Some(0));
    let seen = host.wait(20 * MS);
    let map = seen.iter().position(|frame| frame.1 == 0 && frame.2[0] == 4).unwrap();
    let first = seen.iter().position(|frame| frame.1 == 21).unwrap();
    assert!(map < first);
    // 3 ms are 6000 ticks; the id wraps on the way.
    let expected: Vec<u32> = (0..seen.iter().filter(|f| f.1 == 21).count())
        .map(|nth| (4_294_966_000_u64 + 252 * nth as u64) as u32)
        .collect();
    assert_eq!(ids(&seen, 21), expected);
    assert!(expected.len() > 150 && expected.iter().any(|&id| id < 100_000));
    let mut samples = Vec::new();
    let end = 4_294_966_000 / 2 + 126 * expected.len() as u64;
    Wave::new(3).analog(4_294_966_000 / 2, end, |sample| {
        samples.push(crate::wave::to_f32(sample.i));
    });
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let seen: Vec<u8> = seen
        .iter()
        .filter(|f| f.1 == 21)
        .flat_map(|f| f.2[4..].to_vec())
        .collect();
    assert!(seen == bytes);
}

/// Ten milliseconds of streams with a loss in their middle: the jumps of frame ids and of sample ids, and what was lost.
fn losing(settings: &str) -> (Vec<u16>, Vec<u32>, Vec<Event>) {
    let mut host = Host::connected(settings);
    host.read();
    host.now += MS;
    host.read();
    host.set("s/v/ctrl", 1);
    host.js220.take_events();
    let seen = host.wait(10 * MS);
    let frame_jumps = seen
        .windows(2)
        .map(|two| two[1].0.wrapping_sub(two[0].0))
        .filter(|&jump| jump != 1)
        .collect();
    let sample_jumps = ids(&seen, 22)
        .windows(2)
        .map(|two| two[1].wrapping_sub(two[0]))
        .filter(|&jump| jump != 252)
        .collect();
    (frame_jumps, sample_jumps, host.js220.take_events())
}

#[test]
fn a_loss_shows_as_it_is_set() {
    let lost = Event::Lost(Lost {
        port: 22,
        first: 8000 + 10 * 252,
        end: 8000 + 13 * 252,
    });
    for (losing_as, frame_jumps, sample_jumps) in [
        ("both", vec![4], vec![4 * 252]),
        ("sample", vec![], vec![4 * 252]),
        ("frame", vec![4], vec![]),
    ] {
        let found = losing(&format!("loses={losing_as},fault=lose:3@f10"));
        assert_eq!((found.0, found.1), (frame_jumps, sample_jumps), "{losing_as}");
        assert_eq!(found.2[1], lost);
    }
}

#[test]
fn ids_are_wrong_and_frames_come_twice_as_scripted() {
    let found = losing("fault=duplicate@f10");
    assert_eq!((found.0, found.1), (vec![0], vec![0]));
    let found = losing("fault=frameid:5@f10");
    assert_eq!((found.0, found.1), (vec![6, 1_u16.wrapping_sub(5)], vec![]));
    let found = losing("fault=sampleid:1000@f10");
    assert_eq!((found.0, found.1), (vec![], vec![1252, 252_u32.wrapping_sub(1000)]));
}

#[test]
fn a_full_fifo_loses_the_newest_and_all_is_accounted() {
    let mut host = Host::connected("fifo=5120,seed=8");
    host.set("s/i/ctrl", 1);
    host.set("s/i/range/ctrl", 1);
    host.js220.take_events();
    host.now += 50 * MS;
    let mut seen = host.read();
    assert_eq!(seen.iter().filter(|frame| frame.1 >= 16).count(), 10);
    seen.extend(host.wait(MS));
    for port in [20, 21] {
        let step = if port == 20 { 1008 } else { 252 };
        let lost: u64 = (host.js220.clone().take_events().iter())
            .map(|event| match event {
                Event::Lost(lost) if lost.port == port => lost.end - lost.first,
                _ => 0,
            })
            .sum();
        let ids = ids(&seen, port);
        let covered = u64::from(ids[ids.len() - 1] - ids[0]) + step;
        assert_eq!(covered, ids.len() as u64 * step + lost, "port {port}");
        assert!(lost > 0);
    }
}

#[test]
fn statistics_count_lost_samples_too() {
    let mut host = Host::connected("seed=4,fault=lose:40@f3");
    host.set("s/stats/scnt", 1000);
    host.set("s/stats/ctrl", 1);
    host.set("s/i/ctrl", 1);
    let seen = host.wait(30 * MS);
    let blocks: Vec<_> = seen.iter().filter(|frame| frame.1 == 30).collect();
    let last = blocks[blocks.len() - 1];
    let charge = i128::from_le_bytes(last.2[112..128].try_into().unwrap());
    let word = |at: usize| u64::from_le_bytes(last.2[at..at + 8].try_into().unwrap());
    let mut sum = 0;
    Wave::new(4).analog(word(16) / 2, word(8) / 2 + 1000, |sample| sum += i128::from(sample.i));
    assert_eq!(charge, sum);
    assert!(blocks.len() < 28, "some blocks were lost");
}

#[test]
fn pipes_fail_as_scripted() {
    let mut host = Host::connected("fault=stall@s20000");
    host.set("s/i/ctrl", 1);
    host.now += 11 * MS;
    let mut into = Vec::new();
    assert_eq!(host.js220.bulk_in(&mut into, 512, host.now), Err(UsbFault::Stall));
    assert_eq!(host.js220.clear_halt(host.now), Ok(()));
    assert!(!host.read().is_empty());

    let mut host = Host::connected("seed=1,fault=unplug:50@s0,fault=suspend:20@t400000,fault=silence:20@t600000");
    host.publish("s/i/ctrl", 1);
    host.now += 20 * MS;
    assert_eq!(host.js220.bulk_in(&mut into, 512, host.now), Err(UsbFault::Gone));
    assert!(!host.js220.plugged(host.now));
    host.now += 50 * MS;
    assert!(host.js220.plugged(host.now));
    assert_eq!((host.js220.plugs(), host.read().len()), (1, 0));
    host.now += 201 * MS;
    assert_eq!(host.js220.control_in(2, 0, 0, 1, host.now), Err(UsbFault::Suspended));
    host.now += 21 * MS;
    assert_eq!(host.js220.control_in(1, 0, 0, 1, host.now), Ok(vec![0]));
    host.now += 90 * MS;
    assert!(host.read().is_empty());
    host.now += 21 * MS;
    assert!(!host.read().is_empty());
    assert_eq!(host.js220.control_in(9, 0, 0, 1, host.now), Err(UsbFault::Stall));
}

#[test]
fn answers_come_late_and_in_order() {
    let mut host = Host::connected("fault=late:30@t0");
    host.publish("c/!ping", 1);
    host.publish("c/!ping", 2);
    assert!(host.read().is_empty());
    host.now += 40 * MS;
    let pongs: Vec<_> = host
        .read()
        .iter()
        .filter(|f| f.1 == 1)
        .map(|f| Publish::parse(&f.2).map(|p| p.bits))
        .collect();
    assert_eq!(pongs, [Some(1), Some(2)]);
}

/// Whatever a host sends, it does not panic; what it babbles itself is read too.
#[test]
fn garbage_is_survived() {
    let mut host = Host::connected("fault=babble:64@s1000,fault=badjson@s2000");
    for nth in 0..20_000_u64 {
        let length = (crate::wave::mix(nth) % 70) as usize;
        let mut bytes: Vec<u8> = (0..length as u64)
            .map(|at| crate::wave::mix(nth << 8 | at) as u8)
            .collect();
        if bytes.len() > 4 && nth % 2 == 0 {
            let head = frame::head(0, (nth % 4) as u8, bytes.len() - 4);
            bytes[..4].copy_from_slice(&head);
        }
        let _ = host.js220.bulk_out(&bytes, host.now);
    }
    host.js220.control_in(1, 0, 0, 1, host.now + 1000 * MS).unwrap();
    host.now += 1000 * MS;
    host.set("s/i/ctrl", 1);
    host.now += 20 * MS;
    let mut into = Vec::new();
    while host.js220.bulk_in(&mut into, 1 << 20, host.now).unwrap() {}
    assert!(into.windows(32).any(|bytes| bytes == [b'x'; 32]));
}
