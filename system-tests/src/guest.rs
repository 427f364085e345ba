//! A virtual machine with Debian's own kernel, in software alone (no KVM), that `scripts/usb220-guest` made the parts of. Its root is this
//! machine's, read-only, so that programs that were built here run there with the libraries that they were linked with; it writes to
//! memory. It reaches this machine's loopback as 10.0.2.2, and nobody reaches it.
//!
//! What it is to do comes through a folder of files: scripts that it runs one after the other.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::Process;

/// This machine, as the guest sees it.
pub const HOST: &str = "10.0.2.2";
/// Where the guest has the folder of files.
pub const JOB: &str = "/mnt";
const READY: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
const MEMORY_MIB: &str = "3072";

/// Its first process, once its root is there.
const FIRST: &str = r#"PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run
export PATH HOME TMPDIR
number=1
while :; do
    if [ -f /mnt/$number.sh ]; then
        bash /mnt/$number.sh >/mnt/$number.out 2>&1 </dev/null
        echo $? >/mnt/$number.new
        mv /mnt/$number.new /mnt/$number.status
        number=$((number + 1))
    else
        sleep 0.1
    fi
done
"#;

/// A running virtual machine. Dropping it ends it.
pub struct Guest {
    process: Process,
    job: PathBuf,
    console: PathBuf,
    scripts: u32,
}

/// What a script did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub status: i32,
    /// What it printed, to either output.
    pub text: String,
}

impl Guest {
    /// Starts one, from the parts in `parts`, and waits until it runs scripts. Its files lie in `folder`.
    pub fn boot(parts: &Path, folder: &Path) -> Result<Self> {
        let (job, console) = (folder.join("job"), folder.join("console"));
        fs::create_dir(&job)?;
        fs::write(job.join("guest.sh"), FIRST)?;
        let mut command = Command::new("qemu-system-x86_64");
        // `max`: programs that were built here may use all that a processor has. Without a network card's ROM it does not try to boot
        // from there.
        command.args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            MEMORY_MIB,
        ]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        command.args([
            "-netdev",
            "user,id=net",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]);
        command.arg("-kernel").arg(parts.join("vmlinuz"));
        command.arg("-initrd").arg(parts.join("initramfs"));
        command.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off"]);
        command.arg("-serial").arg(with_path("file:", &console, ""));
        let root = "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap";
        command.args(["-fsdev", root, "-device", "virtio-9p-pci,fsdev=root,mount_tag=root"]);
        let own = with_path("local,id=job,path=", &job, ",security_model=none");
        command.arg("-fsdev").arg(own);
        command.args(["-device", "virtio-9p-pci,fsdev=job,mount_tag=job"]);
        let process = Process::spawn(command, "qemu", folder)?;
        let mut guest = Self {
            process,
            job,
            console,
            scripts: 0,
        };
        guest.run(":", READY).context("the virtual machine did not start")?;
        Ok(guest)
    }

    /// The folder of files, which the guest has as [`JOB`].
    #[must_use]
    pub fn job(&self) -> &Path {
        &self.job
    }

    /// Runs a script of bash, as root, and waits for its end.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Ran> {
        self.scripts += 1;
        let file = |kind: &str| self.job.join(format!("{}.{kind}", self.scripts));
        let (new, status, out) = (file("written"), file("status"), file("out"));
        fs::write(&new, script)?;
        fs::rename(&new, file("sh"))?;
        let since = Instant::now();
        while !status.exists() {
            let ended = self.process.has_ended()?;
            if ended || since.elapsed() > limit {
                let printed = fs::read_to_string(&out).unwrap_or_default();
                let what = if ended {
                    "the virtual machine ended"
                } else {
                    "it took too long"
                };
                bail!(
                    "{what} in:\n{script}\nprinted:\n{printed}\nconsole:\n{}\n{}",
                    tail(&self.console),
                    self.process.log_tail()
                );
            }
            std::thread::sleep(LOOK);
        }
        Ok(Ran {
            status: fs::read_to_string(&status)?.trim().parse()?,
            text: String::from_utf8_lossy(&fs::read(&out)?).into_owned(),
        })
    }

    /// The same, of a script that has to succeed; what it printed.
    pub fn must(&mut self, script: &str, limit: Duration) -> Result<String> {
        let ran = self.run(script, limit)?;
        ensure!(
            ran.status == 0,
            "{} in the virtual machine:\n{script}\nprinted:\n{}\nconsole:\n{}",
            ran.status,
            ran.text,
            tail(&self.console)
        );
        Ok(ran.text)
    }

    /// What the guest has written to one of its files so far.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.job.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it in order.
    pub fn power_off(mut self, limit: Duration) -> Result<()> {
        self.scripts += 1;
        fs::write(
            self.job.join(format!("{}.sh", self.scripts)),
            "exec /run/busybox poweroff -f\n",
        )?;
        self.process.wait(limit).map(drop)
    }
}

fn with_path(before: &str, path: &Path, after: &str) -> OsString {
    let mut argument = OsString::from(before);
    argument.push(path);
    argument.push(after);
    argument
}

fn tail(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
