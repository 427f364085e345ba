//! The bus and whole connections, by bytes written from the protocol's description.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use wavekeep_joulescope_emulator::{parse, wave};

use crate::bus::Bus;
use crate::connection::Server;
use crate::limits;
use crate::protocol::{Broken, Refusal, Submit, Unlink};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn bus(instruments: &str) -> Bus {
    Bus::new(parse(instruments).unwrap(), None)
}

fn transfer(number: u32, is_in: bool, endpoint: u32, length: usize) -> Submit {
    Submit {
        number,
        is_in,
        endpoint,
        length,
        setup: [0; 8],
    }
}

fn control(number: u32, setup: [u8; 8]) -> Submit {
    Submit {
        setup,
        ..transfer(number, setup[0] & 0x80 != 0, 0, usize::from(setup[6]))
    }
}

/// The host opens the instrument, with its defaults.
const CONNECT: [u8; 8] = [0xC0, 1, 0, 0, 0, 0, 1, 0];

/// Sets a topic to a number: the word of the frame, then topic, type `u32`, flags, and 64 bits.
fn set(topic: &str, value: u8) -> Vec<u8> {
    let mut frame = vec![0, 0, 44, 2];
    frame.extend(topic.bytes());
    frame.resize(4 + 32, 0);
    frame.extend([10, 0, 0, 0, value, 0, 0, 0, 0, 0, 0, 0]);
    frame
}

fn answers(bus: &mut Bus, id: u64) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| bus.next_answer(id).flatten()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Command, number and status of an answer.
fn said(answer: &[u8]) -> (u32, u32, i32) {
    (word(answer, 0), word(answer, 4), word(answer, 20).cast_signed())
}

#[test]
fn one_connection_has_an_instrument_and_the_next_one_has_it_anew() {
    let mut bus = bus("js220,serial=1;js220,serial=2");
    assert_eq!(bus.list(ms(1)).len(), 2);
    let (id, port) = bus.import(1, None, ms(1)).unwrap();
    assert_eq!(port.device(), 0x1_0001);
    assert_eq!(bus.import(1, None, ms(2)), Err(Refusal::Busy));
    assert_eq!(bus.import(0, None, ms(2)), Err(Refusal::None));
    assert_eq!(bus.import(3, None, ms(2)), Err(Refusal::None));
    assert!(bus.import(2, None, ms(2)).is_ok());
    bus.leave(id, ms(3));
    assert_eq!(bus.next_answer(id), None);
    // At the same moment: it stays.
    let (id, _) = bus.import(1, None, ms(3)).unwrap();
    bus.step(ms(10));
    assert_eq!(bus.next_answer(id), Some(None));
}

#[test]
fn a_transfer_waits_until_there_are_bytes_and_is_answered_once() {
    let mut bus = bus("js220");
    let (id, _) = bus.import(1, None, ms(0)).unwrap();
    bus.submit(id, &transfer(7, true, 2, 4096), &[], ms(1)).unwrap();
    bus.step(ms(50));
    assert!(answers(&mut bus, id).is_empty());
    bus.submit(id, &control(8, CONNECT), &[], ms(51)).unwrap();
    bus.step(ms(52));
    let found = answers(&mut bus, id);
    assert_eq!(said(&found[0]), (3, 8, 0));
    assert_eq!(found[0].len(), 48 + 1);
    assert_eq!(said(&found[1]), (3, 7, 0));
    // A short frame ends the transfer: it is the one that says who it is.
    let length = word(&found[1], 24) as usize;
    assert_eq!(found[1].len(), 48 + length);
    assert_eq!(found[1][48 + 4], 1, "the operation connect");
    assert_eq!(found.len(), 2);
}

#[test]
fn a_transfer_is_taken_back_or_was_over() {
    let mut bus = bus("js220");
    let (id, _) = bus.import(1, None, ms(0)).unwrap();
    for number in [1, 2] {
        bus.submit(id, &transfer(number, true, 2, 512), &[], ms(1)).unwrap();
    }
    bus.unlink(id, Unlink { number: 3, of: 1 }, ms(2)).unwrap();
    bus.submit(id, &control(4, CONNECT), &[], ms(3)).unwrap();
    bus.step(ms(5));
    bus.unlink(id, Unlink { number: 5, of: 2 }, ms(6)).unwrap();
    let found: Vec<_> = answers(&mut bus, id).iter().map(|answer| said(answer)).collect();
    assert_eq!(found, [(4, 3, -104), (3, 4, 0), (3, 2, 0), (4, 5, 0)]);
}

/// The payloads of port 21 (current) in what arrived.
fn currents(arrived: &[u8]) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut rest = arrived;
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let head = u32::from_le_bytes(*head);
        let (payload, next) = tail.split_at((head >> 16 & 0x1FF) as usize);
        if head >> 25 & 0x1F == 21 {
            ids.push(u32::from_le_bytes(payload[..4].try_into().unwrap()));
        }
        rest = next;
    }
    ids
}

#[test]
fn samples_flow_without_a_hole_and_a_halted_pipe_is_cleared() {
    let mut bus = bus("js220,fault=stall@f30");
    let (id, _) = bus.import(1, None, ms(0)).unwrap();
    bus.submit(id, &control(1, CONNECT), &[], ms(1)).unwrap();
    let on = set("s/i/ctrl", 1);
    bus.submit(id, &transfer(2, false, 1, on.len()), &on, ms(1)).unwrap();
    let found = answers(&mut bus, id);
    assert_eq!((said(&found[1]), word(&found[1], 24)), ((3, 2, 0), 48));
    let (mut arrived, mut stalls) = (Vec::new(), 0);
    for at in 2..60 {
        bus.submit(id, &transfer(at, true, 2, 8192), &[], ms(u64::from(at)))
            .unwrap();
        for answer in answers(&mut bus, id) {
            arrived.extend_from_slice(&answer[48..]);
            if said(&answer).2 != 0 {
                assert_eq!(said(&answer).2, -32);
                stalls += 1;
                let status = [0x82, 0, 0, 0, 0x82, 0, 2, 0];
                bus.submit(id, &control(90, status), &[], ms(u64::from(at))).unwrap();
                assert_eq!(answers(&mut bus, id)[0][48..], [1, 0]);
                let clear = [2, 1, 0, 0, 0x82, 0, 0, 0];
                bus.submit(id, &control(91, clear), &[], ms(u64::from(at))).unwrap();
            }
        }
    }
    assert_eq!(stalls, 1);
    let ids = currents(&arrived);
    assert!(ids.len() > 100, "{}", ids.len());
    assert!(ids.windows(2).all(|two| two[1] == two[0] + 252));
}

#[test]
fn an_unplugged_instrument_cannot_be_imported_until_it_is_back() {
    let mut bus = bus("js220,fault=unplug:100@t20000");
    let (id, _) = bus.import(1, None, ms(0)).unwrap();
    assert!(bus.step(ms(11)), "after 20000 ticks");
    assert_eq!(bus.next_answer(id), None);
    assert_eq!(bus.submit(id, &control(1, CONNECT), &[], ms(11)), Ok(()));
    assert_eq!(bus.import(1, None, ms(50)), Err(Refusal::None));
    assert!(bus.list(ms(50)).is_empty());
    assert!(bus.import(1, None, ms(120)).is_ok());
}

#[test]
fn i12_whoever_asks_for_more_than_a_host_is_cut_off() {
    let mut bus = bus("js220");
    let (id, _) = bus.import(1, None, ms(0)).unwrap();
    let all = |bus: &mut Bus| (0..100).try_for_each(|nth| bus.submit(id, &transfer(nth, true, 2, 1 << 20), &[], ms(1)));
    assert_eq!(all(&mut bus), Err(Broken::Owed));
    bus.leave(id, ms(1));
    let (id, _) = bus.import(1, None, ms(2)).unwrap();
    let nothing = |bus: &mut Bus| (0..2000).try_for_each(|nth| bus.submit(id, &transfer(nth, true, 2, 0), &[], ms(2)));
    assert_eq!(nothing(&mut bus), Ok(()), "each is over at once");
    let unread = |bus: &mut Bus| {
        let most = limits::OWED_BYTES as u32 / 48 + 1;
        (0..most).try_for_each(|number| bus.unlink(id, Unlink { number, of: 0 }, ms(2)))
    };
    assert_eq!(unread(&mut bus), Err(Broken::Owed));
}

fn serve(instruments: &str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(Server::new(bus(instruments)));
    let clock = Arc::clone(&server);
    thread::spawn(move || clock.run());
    thread::spawn(move || crate::accept(&listener, &server));
    address
}

fn client(address: SocketAddr) -> TcpStream {
    let line = TcpStream::connect(address).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    line
}

fn import(address: SocketAddr) -> (TcpStream, Vec<u8>) {
    let mut line = client(address);
    line.write_all(&[1, 0x11, 0x80, 3, 0, 0, 0, 0]).unwrap();
    let name = *b"1-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    line.write_all(&name).unwrap();
    let mut head = vec![0; 8];
    line.read_exact(&mut head).unwrap();
    if head[7] == 0 {
        head.resize(0x140, 0);
        line.read_exact(&mut head[8..]).unwrap();
    }
    (line, head)
}

fn submit(number: u32, is_in: bool, endpoint: u32, length: u32, setup: [u8; 8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [1, number, 0x1_0001, u32::from(is_in), endpoint, 0x200, length, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(setup);
    bytes
}

fn answer(line: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    line.read_exact(&mut bytes).unwrap();
    if word(&bytes, 0) == 3 {
        // Of a control request to the instrument none follow.
        bytes.resize(48 + word(&bytes, 24) as usize, 0);
        line.read_exact(&mut bytes[48..]).unwrap();
    }
    bytes
}

#[test]
fn a_kernel_lists_imports_reads_and_detaches() {
    let address = serve("js220,serial=001122");
    let mut line = client(address);
    line.write_all(&[1, 0x11, 0x80, 5, 0, 0, 0, 0]).unwrap();
    let mut list = Vec::new();
    line.read_to_end(&mut list).unwrap();
    assert_eq!((list.len(), word(&list, 8)), (0x0C + 0x138 + 4, 1));

    let (mut line, head) = import(address);
    assert_eq!(head[..8], [1, 0x11, 0, 3, 0, 0, 0, 0]);
    assert_eq!(import(address).1, [1, 0x11, 0, 3, 0, 0, 0, 2], "it is taken");
    // One that waits, and a descriptor that comes before it.
    line.write_all(&submit(1, true, 2, 512, [0; 8])).unwrap();
    line.write_all(&submit(2, true, 0, 18, [0x80, 6, 0, 1, 0, 0, 18, 0]))
        .unwrap();
    let found = answer(&mut line);
    assert_eq!((said(&found), found[48], found.len()), ((3, 2, 0), 18, 66));
    line.write_all(&submit(3, true, 0, 1, CONNECT)).unwrap();
    assert_eq!(said(&answer(&mut line)), (3, 3, 0));
    assert_eq!(said(&answer(&mut line)), (3, 1, 0));
    // The instrument asks for the time each second; until then this one waits, and is taken back.
    line.write_all(&submit(4, true, 2, 512, [0; 8])).unwrap();
    line.write_all(&submit(5, true, 2, 512, [0; 8])).unwrap();
    let mut unlink = submit(6, true, 2, 5, [0; 8]);
    unlink[3] = 2;
    unlink[20..24].copy_from_slice(&[0, 0, 0, 5]);
    line.write_all(&unlink).unwrap();
    let found = [answer(&mut line), answer(&mut line)];
    assert!(found.iter().any(|answer| said(answer) == (4, 6, -104)), "{found:?}");
    drop(line);
    let again = || import(address).1[7] == 0;
    assert!((0..100).any(|_| again() || {
        thread::sleep(ms(20));
        false
    }));
}

/// Arbitrary bytes, from the first one on and after an import: the server lives, and the instrument comes free.
#[test]
fn i12_a_hostile_client_ends_nobody_but_itself() {
    let address = serve("js220");
    let noise =
        |seed: u64, length: u64| -> Vec<u8> { (0..length).map(|at| wave::mix(seed << 32 | at) as u8).collect() };
    for seed in 0..40 {
        let mut line = if seed % 2 == 0 {
            client(address)
        } else {
            import(address).0
        };
        let mut bytes = noise(seed, 3_000);
        if seed % 4 == 1 {
            // A transfer to the instrument that says a megabyte, and has less.
            bytes.splice(..48, submit(1, false, 1, 1 << 20, [0; 8]));
        } else if seed % 4 == 3 {
            bytes.splice(..0, submit(1, true, 2, u32::MAX, [0; 8]));
        }
        // It may be cut off while it still writes.
        let _ = line.write_all(&bytes);
    }
    let free = || import(address).1[7] == 0;
    assert!((0..100).any(|_| free() || {
        thread::sleep(ms(20));
        false
    }));
}
