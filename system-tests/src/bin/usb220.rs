//! Emulated JS220s on a real bus: Debian's kernel in a virtual machine attaches them over USB/IP, and the real agent captures them there
//! through the real libusb and usbfs, for a real server here. Every stored sample is compared with the waveform, and every gap with what
//! the instrument says that it lost. `make test-usb220`.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use wavekeep_proto::chunk::Reason;
use wavekeep_system_tests::guest::{Guest, HOST, JOB, Ran};
use wavekeep_system_tests::joulescope::{Truth, check, lost, unexplained};
use wavekeep_system_tests::lab::{Lab, free_port, wait_for};
use wavekeep_system_tests::process::{Process, binary};

const RATE_HZ: f64 = 1e6;
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the instrument is away.
const OUTAGE: Duration = Duration::from_secs(3);
/// What emulation is to keep up with: less than this share is stored only where it does not.
const KEPT: f64 = 0.99;

/// Serial number and seed, by port.
const INSTRUMENTS: [(&str, u64); 3] = [("001122", 3), ("003344", 9), ("005566", 27)];
/// The agent, as an ordinary user.
const ANYBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";
const AGENT: &str = "/run/wavekeep-agent";

/// The real agent in a virtual machine, with emulated JS220s on its bus
#[derive(Debug, Parser)]
struct Options {
    /// What scripts/usb220-guest made
    #[arg(long)]
    guest: PathBuf,
    /// How long one instrument is captured
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds of the sample clock in one second: emulation in software has to keep up with it
    #[arg(long, default_value_t = 0.25)]
    scale: f64,
}

/// Everything that runs.
struct Bench {
    since: Instant,
    guest: Guest,
    // After the guest, which has the instruments of the one and the server of the other.
    _usbip: Process,
    lab: Lab,
    port: u16,
    log: PathBuf,
    options: Options,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.seconds >= 5, "--seconds is at least 5");
    ensure!((0.01..=1.0).contains(&options.scale), "--scale is from 0.01 to 1");
    let mut bench = Bench::start(options)?;
    bench.permissions()?;
    bench.one_for_long()?;
    bench.unplugged()?;
    bench.two_at_once()?;
    let since = bench.since;
    bench.guest.power_off(PATIENCE)?;
    println!("{:>6.1} s  all of it holds", since.elapsed().as_secs_f64());
    Ok(())
}

impl Bench {
    fn start(options: Options) -> Result<Self> {
        let since = Instant::now();
        let lab = Lab::start()?;
        let (address, log) = (free_port()?, lab.folder().join("instruments"));
        let settings = INSTRUMENTS
            .iter()
            .zip([1.0, 0.5, 0.5])
            .map(|((serial, seed), part)| format!("js220,serial={serial},seed={seed},scale={}", options.scale * part));
        let mut command = Command::new(std::env::current_exe()?.with_file_name("joulescope-usbip"));
        command.args(["--listen", &address.to_string(), "--log"]).arg(&log);
        command.arg(settings.collect::<Vec<_>>().join(";"));
        let usbip = Process::spawn(command, "usbip", lab.folder()).context("run `make build`")?;
        let guest = Guest::boot(&options.guest, lab.folder())?;
        let mut bench = Self {
            since,
            lab,
            guest,
            _usbip: usbip,
            port: address.port(),
            log,
            options,
        };
        let kernel = bench.prepare()?;
        bench.say(&format!("kernel {} runs, in software alone", kernel.trim()));
        bench.attach(1)?;
        Ok(bench)
    }

    fn say(&self, what: &str) {
        println!("{:>6.1} s  {what}", self.since.elapsed().as_secs_f64());
    }

    /// A device manager, and the agent; which kernel it is.
    fn prepare(&mut self) -> Result<String> {
        let root = self.options.guest.join("root");
        let (root, agent) = (root.display(), binary("wavekeep-agent")?.canonicalize()?);
        let script = format!(
            r#"set -e
mkdir -p /run/udev/rules.d
cat >/run/tools <<'TOOLS'
export LD_LIBRARY_PATH='{root}/usr/lib/x86_64-linux-gnu'
udevadm() {{ '{root}/bin/udevadm' "$@"; }}
usbip() {{ '{root}/usr/sbin/usbip' --tcp-port {port} "$@"; }}
TOOLS
. /run/tools
'{root}/lib/systemd/systemd-udevd' --daemon 2>/dev/null
cp '{agent}' {AGENT}
uname -r"#,
            port = self.port,
            agent = agent.display(),
        );
        self.guest.must(&script, PATIENCE)
    }

    /// Plugs an instrument in, and waits until the kernel has it.
    fn attach(&mut self, port: usize) -> Result<()> {
        let serial = INSTRUMENTS[port - 1].0;
        let script = format!(
            r#". /run/tools
usbip attach -r {HOST} -b 1-{port} || exit 1
for wait in $(seq 200); do
    if grep -qx {serial} /sys/bus/usb/devices/*/serial 2>/dev/null; then udevadm settle; exit; fi
    sleep 0.1
done
dmesg | tail -n 20
exit 1"#
        );
        self.guest.must(&script, PATIENCE).map(drop)
    }

    /// The command of an agent in the guest; its log is `NAME.log` in the folder of files.
    fn agent(&self, name: &str, options: &str) -> String {
        format!(
            "mkdir -p -m 777 /run/{name}\n{ANYBODY} {AGENT} run --server http://{HOST}:{port} --outbox /run/{name}/outbox --quota 1GiB {options} >{JOB}/{name}.log 2>&1",
            port = self.lab.address().port()
        )
    }

    fn devices(&mut self, by: &str) -> Result<Ran> {
        self.guest.run(&format!("{by} {AGENT} devices"), PATIENCE)
    }

    /// (a) Root may open it, an ordinary user only with the rule, and is told so.
    fn permissions(&mut self) -> Result<()> {
        let root = self.devices("")?;
        let is_listed = |ran: &Ran| ran.status == 0 && ran.text.contains("js220  001122") && ran.text.contains("1.3.0");
        ensure!(is_listed(&root), "devices, as root: {root:?}");
        let denied = self.devices(ANYBODY)?;
        let says = denied
            .text
            .contains("this user may not open the js220 001122: as root, `echo ");
        ensure!(denied.status == 1 && says, "devices, as an ordinary user: {denied:?}");
        let rule = std::env::current_dir()?.join("deploy/udev/72-joulescope.rules");
        let install = format!(
            ". /run/tools; cp '{}' /run/udev/rules.d/ && udevadm control --reload && udevadm trigger && udevadm settle",
            rule.display()
        );
        self.guest.must(&install, PATIENCE)?;
        let allowed = self.devices(ANYBODY)?;
        ensure!(
            is_listed(&allowed),
            "devices, as an ordinary user with the rule: {allowed:?}"
        );
        self.say("devices: listed for root; denied to an ordinary user, with what to do; listed for him with the rule");
        Ok(())
    }

    /// Captures for so long by the clock on the wall; what is said of it, and the truth of each instrument.
    fn capture(&mut self, name: &str, ports: &[usize], seconds: u64, scale: f64) -> Result<Vec<Truth>> {
        let milliseconds = (seconds as f64 * scale * 1e3).round() as u64;
        let serials = ports
            .iter()
            .map(|port| format!("--joulescope {} ", INSTRUMENTS[port - 1].0));
        let options = format!(
            "{}--settings signals=current+voltage --duration {milliseconds}ms",
            serials.collect::<String>()
        );
        let agent = self.agent(name, &options);
        let script = format!("TIMEFORMAT='%R %U %S'\ntime {{ {agent}; }}\nexit $?");
        let ran = self.guest.run(&script, Duration::from_secs(seconds) + 4 * PATIENCE)?;
        ensure!(ran.status == 0, "{ran:?}\n{}", self.guest.text(&format!("{name}.log")));
        let mut truths = Vec::new();
        for port in ports {
            let (serial, seed) = INSTRUMENTS[port - 1];
            let mut checked = check(&self.lab, &format!("js220-{serial}"), "current", &[seed])?;
            let (_, truth) = checked.pop().context("one opening")?;
            let captured = (milliseconds as f64 * RATE_HZ / 1e3) as u64;
            ensure!(
                truth.captured() == captured,
                "{} of {captured} samples are accounted for",
                truth.captured()
            );
            self.account(serial, 0, &truth)?;
            let share = truth.stored as f64 / captured as f64;
            self.say(&format!(
                "{name}: js220-{serial}: {captured} samples, {} stored and true, gaps {}",
                truth.stored,
                named(&truth)
            ));
            ensure!(
                share >= KEPT,
                "emulation does not keep up with a sample clock of {scale}: SCALE= names a slower one"
            );
            truths.push(truth);
        }
        let times: Vec<f64> = ran
            .text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        if let [real, user, system] = times[..] {
            self.say(&format!(
                "{name}: sample clock x {scale}, {real:.1} s; the agent took {:.2} emulated cores",
                (user + system) / real
            ));
        }
        Ok(truths)
    }

    /// What the instrument is said to have lost, it has lost.
    fn account(&self, serial: &str, plugs: u64, truth: &Truth) -> Result<()> {
        let lost: Vec<Range<u64>> = lost(&self.log, serial, plugs)?;
        for (reason, gap) in &truth.holes {
            let alien = unexplained(gap, &lost);
            ensure!(
                *reason != Reason::DeviceOverflow || alien == 0,
                "{serial} did not lose {alien} samples of {gap:?}, which are in a gap as if it had"
            );
        }
        Ok(())
    }

    /// (b) One for long: each sample is stored and that of the waveform, or in a gap.
    fn one_for_long(&mut self) -> Result<()> {
        let (seconds, scale) = (self.options.seconds, self.options.scale);
        self.capture("one", &[1], seconds, scale).map(drop)
    }

    /// (c) The cable is pulled and put in again.
    fn unplugged(&mut self) -> Result<()> {
        let agent = self.agent(
            "away",
            "--device bench --joulescope 001122 --settings signals=current+voltage",
        );
        self.guest
            .must(&format!("{{ {agent}; echo $? >{JOB}/away.status; }} &"), PATIENCE)?;
        let is_there = |lab: &Lab| Ok(lab.reader(&["devices"])?.contains("bench"));
        wait_for("it is captured", PATIENCE, || is_there(&self.lab))?;
        std::thread::sleep(Duration::from_secs(4));
        let since = Instant::now();
        self.guest.must(". /run/tools; usbip detach -p 0", PATIENCE)?;
        std::thread::sleep(OUTAGE);
        self.attach(1)?;
        let again = || Ok(self.guest.text("away.log").contains("bench: it is captured again"));
        wait_for("it is captured again", PATIENCE, again)?;
        let outage = since.elapsed();
        std::thread::sleep(Duration::from_secs(4));
        self.guest.must("kill -TERM $(pidof wavekeep-agent)", PATIENCE)?;
        wait_for("the agent ends", PATIENCE, || {
            Ok(!self.guest.text("away.status").is_empty())
        })?;
        let log = self.guest.text("away.log");
        ensure!(
            self.guest.text("away.status").trim() == "0" && !log.contains("panicked"),
            "{log}"
        );
        let seed = INSTRUMENTS[0].1;
        let checked = check(&self.lab, "bench", "current", &[seed, seed + 1])?;
        let [(first, before), (second, after)] = &checked[..] else {
            anyhow::bail!("there are not two openings")
        };
        ensure!(first.definition.epoch != second.definition.epoch, "two epochs");
        self.account("001122", 0, before)?;
        self.account("001122", 1, after)?;
        let away = before.gaps.get(&Reason::Unplugged).copied().unwrap_or(0) as f64 / RATE_HZ;
        // It is noticed at once, and over as soon as the instrument is open again.
        let expected = OUTAGE.as_secs_f64() - 0.5..outage.as_secs_f64() + 1.0;
        ensure!(
            expected.contains(&away),
            "a gap of {away:.1} s, for an outage of {expected:?}"
        );
        ensure!(!after.gaps.contains_key(&Reason::Unplugged), "{:?}", after.gaps);
        ensure!(
            before.stored > 100_000 && after.stored > 100_000,
            "{} {}",
            before.stored,
            after.stored
        );
        self.say(&format!(
            "away: detached for {:.1} s: two epochs, a gap unplugged of {away:.1} s; {} and {} samples stored and true, gaps {} and {}",
            outage.as_secs_f64(),
            before.stored,
            after.stored,
            named(before),
            named(after)
        ));
        Ok(())
    }

    /// (d) Two at once, each at half of the clock.
    fn two_at_once(&mut self) -> Result<()> {
        self.attach(2)?;
        self.attach(3)?;
        let (seconds, scale) = ((self.options.seconds / 4).max(5), self.options.scale / 2.0);
        self.capture("two", &[2, 3], seconds, scale).map(drop)
    }
}

fn named(truth: &Truth) -> String {
    let of = |(reason, count): (&Reason, &u64)| format!("{} {count}", reason.name());
    let all: Vec<String> = truth.gaps.iter().map(of).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}
