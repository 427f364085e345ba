//! What an agent beside this command says of its outbox: by its admin socket, or, where none runs, by `wavekeep-agent outbox status`,
//! which can open an outbox. Bytes that come from there are parsed, and never trusted to be anything.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use wavekeep::proto::id::StreamId;
use wavekeep::reconcile::Held;

use super::failure::Failure;
use super::limits::{AGENT_ANSWER_BYTES_MAX, AGENT_SECONDS_MAX};

/// As the agent names it.
const SOCKET_NAME: &str = "agent.sock";
const AGENT: &str = "wavekeep-agent";

/// Where the agent is.
#[derive(Debug)]
pub(super) struct Agent<'a> {
    socket: PathBuf,
    outbox: Option<&'a Path>,
}

#[derive(Deserialize)]
struct Status {
    outbox: Outbox,
}

#[derive(Deserialize)]
struct Outbox {
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    stream: String,
    device: String,
    run: String,
    first_sample: u64,
    next_sample: u64,
    released_sample: u64,
    acked_sample: u64,
    ended: bool,
    moves: bool,
}

impl<'a> Agent<'a> {
    /// None where nothing says where it is.
    pub(super) fn new(socket: Option<&Path>, outbox: Option<&'a Path>) -> Option<Self> {
        let beside = || outbox.map(|outbox| outbox.join(SOCKET_NAME));
        let socket = socket.map(Path::to_path_buf).or_else(beside)?;
        Some(Self { socket, outbox })
    }

    /// The streams that it holds, but for those that move to a successor at this moment.
    pub(super) fn held(&self) -> Result<Vec<Held>, Failure> {
        let streams = match (ask(&self.socket), self.outbox) {
            (Ok(answer), _) => parse::<Status>(&answer)?.outbox.streams,
            (Err(_), Some(outbox)) => parse::<Outbox>(&self.inspect(outbox)?)?.streams,
            (Err(error), None) => {
                let socket = self.socket.display();
                return Err(Failure::Failed(format!(
                    "no agent answers at {socket} ({error}): give --outbox DIR, which is read where its agent does not run"
                )));
            }
        };
        let still = streams.into_iter().filter(|stream| !stream.moves);
        still.map(held).collect()
    }

    fn inspect(&self, outbox: &Path) -> Result<Vec<u8>, Failure> {
        let mut command = Command::new(program());
        command.args(["outbox", "status", "--json", "--admin-socket"]);
        let output = command.arg(&self.socket).arg(outbox).output();
        let output = output.map_err(|error| {
            Failure::Failed(format!(
                "{} cannot be read, because `{AGENT}` cannot be run ({error}): put it beside `wavekeep`, or into the PATH",
                outbox.display()
            ))
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("error: ");
            return Err(Failure::Failed(if said.is_empty() {
                format!("`{AGENT} outbox status {}` failed", outbox.display())
            } else {
                said.to_owned()
            }));
        }
        Ok(output.stdout)
    }
}

/// Beside this program, or wherever the PATH has it.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|own| Some(own.parent()?.join(AGENT)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| AGENT.into())
}

/// One request of HTTP/1.0, which ends with the connection.
fn ask(socket: &Path) -> io::Result<Vec<u8>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(AGENT_SECONDS_MAX))?;
    stream.set_write_timeout(Some(AGENT_SECONDS_MAX))?;
    stream.write_all(b"GET /status HTTP/1.0\r\nHost: agent\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(AGENT_ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let head = head.ok_or_else(|| invalid("it does not speak HTTP"))?;
    if answer.split(|byte| *byte == b' ').nth(1) != Some(b"200") {
        return Err(invalid(String::from_utf8_lossy(&answer[head + 4..]).trim()));
    }
    Ok(answer.split_off(head + 4))
}

fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| {
        Failure::Failed(format!(
            "the agent says what this program does not understand ({error}): use the same version of both"
        ))
    })
}

fn held(stream: Stream) -> Result<Held, Failure> {
    let unknown = |_| Failure::Failed(format!("the agent names a stream {:?}, which is no id", stream.stream));
    Ok(Held {
        stream: stream.stream.parse::<StreamId>().map_err(unknown)?,
        device: stream.device,
        run: stream.run,
        first_sample: stream.first_sample,
        next_sample: stream.next_sample,
        released_sample: stream.released_sample,
        acked_sample: stream.acked_sample,
        ended: stream.ended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_is_read_and_what_is_no_answer_is_refused_in_words() {
        let stream = |id: &str, moves: bool| {
            serde_json::json!({
                "stream": id, "device": "bench", "run": "", "first_sample": 1, "next_sample": 9, "released_sample": 2,
                "acked_sample": 3, "ended": false, "moves": moves, "something_newer": {},
            })
        };
        let id = "0f8e2c41aa00000000000000000000ff";
        let outbox = serde_json::json!({ "streams": [stream(id, false)] }).to_string();
        let streams = parse::<Outbox>(outbox.as_bytes()).expect("it is one").streams;
        let held: Vec<Held> = streams.into_iter().map(|stream| held(stream).expect("an id")).collect();
        assert_eq!((held[0].stream.to_string().as_str(), held[0].acked_sample), (id, 3));

        let older = r#"{"streams": [{"stream": "0f", "device": "bench", "run": "", "next_sample": 9}]}"#;
        let Err(Failure::Failed(said)) = parse::<Outbox>(older.as_bytes()) else {
            panic!("it lacks what is needed");
        };
        assert!(said.contains("first_sample") && said.contains("same version"), "{said}");
        let wrong = serde_json::json!({ "streams": [stream("js220", false)] }).to_string();
        let mut streams = parse::<Outbox>(wrong.as_bytes()).expect("it is one").streams;
        assert!(super::held(streams.remove(0)).is_err());
    }

    #[test]
    fn who_is_not_there_is_told() {
        let folder = tempfile::tempdir().expect("a directory");
        let socket = folder.path().join("none.sock");
        let agent = Agent::new(Some(&socket), None).expect("it has a place");
        assert!(matches!(agent.held(), Err(Failure::Failed(said)) if said.contains("--outbox DIR")));
        assert!(Agent::new(None, None).is_none());
        let outbox = Agent::new(None, Some(folder.path())).expect("it has a place");
        assert_eq!(outbox.socket, folder.path().join("agent.sock"));
    }
}
