//! Takes out one rule of the protocol after the other, in a copy of the sources, and sees whether the tests notice.
//!
//! `mutate [PART-OF-A-NAME]…` reads `system-tests/mutations/*.txt`. Each mutation names a file, a text that stands in it exactly once,
//! what replaces it, and the tests that must then fail; or why nobody can notice. Exit 0 only if all of that is so.
//!
//! The copy has the contract, the simulation without its network, the server, and of the agent only the outbox, so that a build takes
//! seconds; it lies in the system's temporary directory, its target directory beside the one that cargo uses. What `network` must notice
//! is taken out of another copy, which has the whole agent, but for RocksDB.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use wavekeep_simulation::mutation::{Fate, Mutation, Test, parse};

/// A test that runs longer has been caught in a loop: that is noticed too.
const TEST_WAIT: Duration = Duration::from_secs(240);
const AGENT_LIB: &str = "//! Only the outbox.\npub mod outbox;\n";
const AGENT_MANIFEST: &str = r#"[package]
name = "wavekeep-agent"
version.workspace = true
edition.workspace = true

[features]
rocksdb = []

[dependencies]
bytes.workspace = true
getrandom.workspace = true
prost.workspace = true
serde.workspace = true
thiserror.workspace = true
wavekeep-proto.workspace = true
xxhash-rust.workspace = true

[dev-dependencies]
proptest.workspace = true
tempfile.workspace = true
"#;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match run(&wanted) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!(
                "{wrong} of the mutations are not as the list says: write the test that is missing, or say why none can be"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How many are not as the list says.
fn run(wanted: &[String]) -> Result<usize, Failure> {
    let root = root()?;
    let mutations = read_list(&root.join("system-tests/mutations"))?;
    let is_wanted = |mutation: &Mutation| wanted.is_empty() || wanted.iter().any(|part| mutation.name.contains(part));
    let chosen: Vec<Mutation> = mutations.into_iter().filter(is_wanted).collect();
    if chosen.is_empty() {
        return Err(format!("no mutation is named like {wanted:?}").into());
    }
    let (whole, of_machines): (Vec<_>, Vec<_>) = chosen.iter().partition(|mutation| mutation.tests().any(needs_all));
    let wrong = try_all(&root, Extent::Machines, &of_machines)? + try_all(&root, Extent::Whole, &whole)?;
    println!("{} mutations, {wrong} not as the list says", chosen.len());
    Ok(wrong)
}

fn needs_all(test: &Test) -> bool {
    matches!(test, Test::Network { .. })
}

fn try_all(root: &Path, extent: Extent, mutations: &[&Mutation]) -> Result<usize, Failure> {
    if mutations.is_empty() {
        return Ok(0);
    }
    let copy = Copy::of(root, extent)?;
    println!("without any mutation");
    let tests: std::collections::BTreeSet<&Test> = mutations.iter().flat_map(|mutation| mutation.tests()).collect();
    for test in tests {
        if let Some(failed) = copy.fails(test)? {
            return Err(format!("{test} fails without any mutation: {failed}").into());
        }
    }
    let mut wrong = 0;
    for mutation in mutations {
        wrong += usize::from(!copy.try_mutation(mutation)?);
    }
    Ok(wrong)
}

/// How much of the sources a copy has.
#[derive(Debug, PartialEq, Eq)]
enum Extent {
    /// What the state machines' tests need.
    Machines,
    /// All that the simulated network needs.
    Whole,
}

/// The repository: above where this runs.
fn root() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir()?;
    let found = here
        .ancestors()
        .find(|path| path.join("system-tests/mutations").is_dir());
    Ok(found
        .ok_or("run it inside of the repository: there is no system-tests/mutations above here")?
        .to_owned())
}

fn read_list(folder: &Path) -> Result<Vec<Mutation>, Failure> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension() == Some(OsStr::new("txt")));
    files.sort();
    let mut mutations = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        mutations.extend(parse(&text).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    Ok(mutations)
}

/// The sources, to be changed one at a time.
struct Copy {
    extent: Extent,
    root: PathBuf,
    target: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is a temporary directory.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, copied) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &copied)?;
        } else {
            std::fs::copy(&source, &copied)?;
        }
    }
    Ok(())
}

impl Copy {
    fn of(root: &Path, extent: Extent) -> Result<Self, Failure> {
        let (agent, target) = match extent {
            Extent::Machines => ("agent/src/outbox", "mutations"),
            Extent::Whole => ("agent", "mutations-network"),
        };
        let copy = Self {
            extent,
            root: std::env::temp_dir().join(format!("wavekeep-{target}-{}", std::process::id())),
            target: target_directory()?.join(target),
        };
        for part in ["proto", agent, "ingest-server", "migrations", "system-tests/simulation"] {
            copy_tree(&root.join(part), &copy.root.join(part))?;
        }
        let manifest = std::fs::read_to_string(root.join("Cargo.toml"))?;
        let (before, rest) = manifest.split_once("members = [").ok_or("the workspace has members")?;
        let (_, after) = rest.split_once(']').ok_or("the list of members ends")?;
        let members = r#"members = ["proto", "agent", "ingest-server", "system-tests/simulation"]"#;
        std::fs::write(copy.root.join("Cargo.toml"), [before, members, after].concat())?;
        std::fs::copy(root.join("Cargo.lock"), copy.root.join("Cargo.lock"))?;
        if copy.extent == Extent::Machines {
            std::fs::write(copy.root.join("agent/Cargo.toml"), AGENT_MANIFEST)?;
            std::fs::write(copy.root.join("agent/src/lib.rs"), AGENT_LIB)?;
        }
        Ok(copy)
    }

    /// Is everything as the list says?
    fn try_mutation(&self, mutation: &Mutation) -> Result<bool, Failure> {
        let path = self.root.join(&mutation.file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", mutation.file))?;
        let found = text.matches(&mutation.find).count();
        if found != 1 {
            println!(
                "✗ {}: its text stands {found} times in {}",
                mutation.name, mutation.file
            );
            return Ok(false);
        }
        let Fate::KilledBy(tests) = &mutation.fate else {
            println!("  {}: nobody can notice", mutation.name);
            return Ok(true);
        };
        std::fs::write(&path, text.replace(&mutation.find, &mutation.replace))?;
        let tried = self.try_tests(mutation, tests);
        std::fs::write(&path, text)?;
        tried
    }

    fn try_tests(&self, mutation: &Mutation, tests: &[Test]) -> Result<bool, Failure> {
        let mut killed = true;
        for test in tests {
            let started = Instant::now();
            let verdict = self.fails(test);
            let seconds = started.elapsed().as_secs();
            match verdict {
                Ok(Some(how)) => println!("  {}: {test} fails after {seconds} s: {how}", mutation.name),
                Ok(None) => {
                    println!("✗ {}: {test} does not notice", mutation.name);
                    killed = false;
                }
                Err(error) => {
                    println!("✗ {}: {error}", mutation.name);
                    killed = false;
                }
            }
        }
        Ok(killed)
    }

    /// How the test fails, if it does. An error: it does not even build.
    fn fails(&self, test: &Test) -> Result<Option<String>, Failure> {
        let of_machines = matches!(test, Test::Simulation { .. } | Test::RareCases);
        let features = of_machines.then_some("--no-default-features");
        let built = Command::new("cargo")
            .args(["test", "--release", "--offline", "--no-run"])
            .args(test.arguments())
            .args(features)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_TERM_COLOR", "never")
            .output()?;
        let said = String::from_utf8_lossy(&built.stderr);
        if !built.status.success() {
            let error = said
                .lines()
                .find(|line| line.starts_with("error"))
                .unwrap_or("cargo says nothing");
            return Err(format!("{test} does not build: {error}").into());
        }
        let executable = said.lines().find_map(|line| {
            line.trim()
                .strip_prefix("Executable ")?
                .split_once('(')?
                .1
                .strip_suffix(')')
        });
        let executable = executable.ok_or("cargo does not say what it built")?;
        self.run(&self.root.join(executable), test)
    }

    fn run(&self, executable: &Path, test: &Test) -> Result<Option<String>, Failure> {
        let said = self.root.join("said.txt");
        let mut command = Command::new(executable);
        if let Test::Simulation { seeds } | Test::Network { seeds } = test {
            command
                .env("WAVEKEEP_SEEDS", seeds.to_string())
                .args(["every_sample", "--nocapture"]);
        }
        command
            .env("RUST_BACKTRACE", "0")
            .current_dir(&self.root)
            .stderr(Stdio::null());
        let mut child = command.stdout(std::fs::File::create(&said)?).spawn()?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > TEST_WAIT {
                child.kill()?;
                child.wait()?;
                return Ok(Some("it never ends".into()));
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if status.success() {
            return Ok(None);
        }
        let said = std::fs::read_to_string(&said)?;
        let line = said
            .lines()
            .find(|line| line.starts_with("seed ") || line.ends_with("FAILED"));
        Ok(Some(line.unwrap_or("it dies").chars().take(160).collect()))
    }
}

/// Where the builds lie: in the target directory that cargo is told to use; else in the user's cache.
fn target_directory() -> Result<PathBuf, Failure> {
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(PathBuf::from(target));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache
        .ok_or("set CARGO_TARGET_DIR or HOME: the builds need a place")?
        .join("wavekeep/target"))
}
