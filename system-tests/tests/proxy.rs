//! What the proxy does to plain TCP: what the other tests take for granted.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use wavekeep_system_tests::lab::wait_for;
use wavekeep_system_tests::proxy::{Proxy, Way};

/// Sends `greeting` to whoever connects, and then everything back; at the end of that, `bye`.
fn echo(greeting: &'static [u8], bye: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(greeting);
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
                let _ = stream.write_all(bye);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn sent_back(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    back
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let read = stream.read(&mut [0; 16]);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn bytes_pass_unchanged_and_ends_too() {
    let proxy = Proxy::start(echo(b"", b"")).unwrap();
    let mut stream = connect(&proxy);
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut reader = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stream.write_all(&sent));
    let mut back = vec![0; bytes.len()];
    reader.read_exact(&mut back).unwrap();
    writer.join().unwrap().unwrap();
    assert!(back == bytes);
}

#[test]
fn a_cut_connection_is_reset_and_the_next_one_passes() {
    let proxy = Proxy::start(echo(b"", b"")).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(sent_back(&mut stream, b"before"), b"before");
    proxy.cut();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(sent_back(&mut connect(&proxy), b"after"), b"after");
}

#[test]
fn a_cut_ends_a_connection_whose_receiver_does_not_read() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(deaf.local_addr().unwrap()).unwrap();
    let mut stream = connect(&proxy);
    // Accepted by the proxy, and by nobody behind it.
    wait_for("it leads there", Duration::from_secs(5), || {
        Ok(proxy.newest_leads_to().is_some())
    })
    .unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while stream.write(&[0; 65_536]).is_ok() {}
    proxy.cut();
    let reset = || {
        Ok(stream
            .write(&[0])
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset))
    };
    let mut reset = reset;
    wait_for("the sender hears of it", Duration::from_secs(5), &mut reset).unwrap();
}

#[test]
fn refused_and_held() {
    let proxy = Proxy::start(echo(b"", b"")).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(sent_back(&mut stream, b"now"), b"now");
    proxy.refuse(true);
    assert!(!connect(&proxy).read(&mut [0; 1]).is_ok_and(|count| count > 0));
    proxy.hold(true);
    stream.write_all(b"later").unwrap();
    assert!(is_silent(&mut stream));
    proxy.heal();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"later");
}

#[test]
fn delayed_and_throttled() {
    let proxy = Proxy::start(echo(b"", b"")).unwrap();
    let mut stream = connect(&proxy);
    proxy.delay(Duration::from_millis(100));
    let since = Instant::now();
    assert_eq!(sent_back(&mut stream, b"x"), b"x");
    assert!(since.elapsed() >= Duration::from_millis(200), "once each way");
    proxy.heal();
    proxy.throttle(200_000);
    let mut fresh = connect(&proxy);
    let since = Instant::now();
    sent_back(&mut fresh, &[7; 100_000]);
    let took = since.elapsed();
    assert!((400..2_000).contains(&took.as_millis()), "half a second: {took:?}");
}

#[test]
fn one_bit_flips_and_no_more_either_way() {
    let proxy = Proxy::start(echo(b"", b"")).unwrap();
    let mut stream = connect(&proxy);
    for way in [Way::FromAgents, Way::FromServer] {
        proxy.flip(way, 1);
        let back = sent_back(&mut stream, &[0x55; 100]);
        let flipped: u32 = back.iter().map(|byte| (byte ^ 0x55).count_ones()).sum();
        assert_eq!(flipped, 1, "{way:?}");
        assert_eq!(sent_back(&mut stream, &[0x55; 100]), [0x55; 100]);
    }
}

#[test]
fn half_closed_one_way_and_open_the_other() {
    let proxy = Proxy::start(echo(b"", b"bye")).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(sent_back(&mut stream, b"x"), b"x");
    proxy.half_close(Way::FromAgents);
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(
        said, b"bye",
        "the server saw an end, and what it said after that arrived"
    );

    let mut stream = connect(&proxy);
    assert_eq!(sent_back(&mut stream, b"x"), b"x");
    proxy.half_close(Way::FromServer);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end");
    let sent = proxy.sent_bytes();
    stream.write_all(b"more").unwrap();
    wait_for("it is taken", Duration::from_secs(5), || {
        Ok(proxy.sent_bytes() == sent + 4)
    })
    .unwrap();
}

#[test]
fn a_black_hole_takes_everything_and_says_nothing() {
    let proxy = Proxy::start(echo(b"hello", b"")).unwrap();
    let mut old = connect(&proxy);
    old.read_exact(&mut [0; 5]).unwrap();
    proxy.black_hole(true);
    old.write_all(b"into the hole").unwrap();
    assert!(is_silent(&mut old));
    let mut new = connect(&proxy);
    new.write_all(b"anybody?").unwrap();
    assert!(is_silent(&mut new), "accepted, and not greeted");
    proxy.black_hole(false);
    old.write_all(b"lost").unwrap();
    assert!(is_silent(&mut old) && is_silent(&mut new), "bytes are missing in both");
    connect(&proxy).read_exact(&mut [0; 5]).unwrap();
    proxy.cut();
    assert_eq!(old.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn whichever_of_several_answers_takes_a_connection() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (one, other) = (echo(b"1", b""), echo(b"2", b""));
    let proxy = Proxy::balance(vec![dead, one, other], 5).unwrap();
    let mut greetings = [0_u32; 256];
    for _ in 0..40 {
        let mut said = [0];
        connect(&proxy).read_exact(&mut said).unwrap();
        greetings[usize::from(said[0])] += 1;
        let named = if said == *b"1" { one } else { other };
        assert_eq!(proxy.newest_leads_to(), Some(named));
    }
    let counts = [greetings[usize::from(b'1')], greetings[usize::from(b'2')]];
    assert!(
        counts.iter().all(|count| *count >= 5) && counts.iter().sum::<u32>() == 40,
        "{counts:?}"
    );
}
