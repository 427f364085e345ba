//! Cleans up after a test that could not do so itself: when its process ends in any way, an interrupt or a time limit of CI
//! included, what it had started is killed and its folder goes.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Woken by the end of our process, through a pipe. `*.pid` are of processes with a group of their own (an id may be another's by
/// now); Postgres is told to end.
const SCRIPT: &str = r#"cat >/dev/null
[ -d "$1" ] || exit 0
for file in "$1"/*.pid; do
    process=$(cat "$file")
    case "$(readlink "/proc/$process/exe")" in */wavekeep-* | */joulescope-usbip | */qemu-system-*) kill -KILL "-$process" ;; esac
done
postmaster=$(head -n 1 "$1/server/data/postmaster.pid") && kill -QUIT "$postmaster"
for wait in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$postmaster" || break; sleep 0.3; done
rm -rf "$1""#;

/// See the module's documentation.
pub(crate) struct Watcher(Child);

impl Watcher {
    /// Of a folder in which processes and a server leave their ids.
    pub(crate) fn start(folder: &Path) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "watcher"]).arg(folder);
        command.process_group(0).stdin(Stdio::piped());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self(child))
    }

    /// The folder is to stay.
    pub(crate) fn dismiss(&mut self) {
        let _ = self.0.kill();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
