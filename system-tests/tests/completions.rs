//! What the programs print for shells: asked of a real bash as it asks when somebody presses tab, at each level of commands.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::process::Command;

use wavekeep_system_tests::process::binary;

fn script(program: &str, shell: &str) -> String {
    let output = Command::new(binary(program).unwrap())
        .args(["completions", shell])
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {shell}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers after this line; with a blank at its end, for the next word.
fn offered(script: &str, line: &str) -> Vec<String> {
    let program = line.split(' ').next().unwrap();
    let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
    // The function is the one that the script registers for the program.
    // `compopt` is for a shell in which somebody presses tab.
    let asked = format!(
        "{script}
        compopt() {{ :; }}
        registered=$(complete -p {program}); function=${{registered#*-F }}; function=${{function%% *}}
        COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $function {program} \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"
        printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" ")
    );
    let output = Command::new("bash").args(["--norc", "-c", &asked]).output().unwrap();
    assert!(
        output.stderr.is_empty(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_completes_every_program_at_every_level() {
    for (program, lines) in [
        (
            "wavekeep",
            &[
                ("wavekeep expo", &["export"][..]),
                ("wavekeep run rem", &["remove"]),
                ("wavekeep export --format par", &["parquet"]),
            ][..],
        ),
        (
            "wavekeep-agent",
            &[
                ("wavekeep-agent repl", &["replay"]),
                ("wavekeep-agent run --sim", &["--simulate"]),
                ("wavekeep-agent run --fsync each", &["each-chunk"]),
                (
                    "wavekeep-agent outbox ",
                    &["status", "verify", "export", "repair", "rebind"],
                ),
                ("wavekeep-agent outbox export --out", &["--output"]),
            ],
        ),
        (
            "wavekeep-server",
            &[
                ("wavekeep-server quar", &["quarantine"]),
                ("wavekeep-server quarantine ", &["list", "show", "replay"]),
                ("wavekeep-server dev --li", &["--listen"]),
                ("wavekeep-server workspace cr", &["create"]),
                ("wavekeep-server quarantine list --data", &["--database-url"]),
            ],
        ),
    ] {
        let script = script(program, "bash");
        for (line, wanted) in lines {
            let offered = offered(&script, line);
            for word in *wanted {
                assert!(offered.iter().any(|offered| offered == word), "{line}: {offered:?}");
            }
            // What begins like one thing alone is that.
            assert!(line.ends_with(' ') || offered.len() == 1, "{line}: {offered:?}");
        }
    }
}

#[test]
fn no_file_is_offered_where_a_name_or_a_time_is_wanted() {
    let script = script("wavekeep", "bash");
    for line in [
        "wavekeep stats --device ",
        "wavekeep stats --from ",
        "wavekeep run create --label ",
    ] {
        assert_eq!(offered(&script, line), [""], "{line}");
    }
    // Here, the folder of this test.
    let files = offered(&script, "wavekeep export --output ");
    assert!(files.iter().any(|name| name == "Cargo.toml"), "{files:?}");
}

#[test]
fn fish_and_zsh_are_told_of_every_level() {
    for (program, inner) in [
        ("wavekeep", "import"),
        ("wavekeep-agent", "rebind"),
        ("wavekeep-server", "quarantine"),
    ] {
        let fish = script(program, "fish");
        assert!(
            fish.lines()
                .any(|line| line.starts_with(&format!("complete -c {program} ")) && line.contains(inner))
        );
        let zsh = script(program, "zsh");
        assert!(
            zsh.starts_with(&format!("#compdef {program}\n")) && zsh.contains(&format!("'{inner}:")),
            "{program}"
        );
    }
}

#[test]
fn every_program_names_the_command_that_was_meant() {
    for (program, words, meant) in [
        ("wavekeep", &["rnu"][..], "'run'"),
        ("wavekeep-agent", &["rnu"], "'run'"),
        ("wavekeep-agent", &["outbox", "statsu"], "'status'"),
        ("wavekeep-server", &["dve"], "'dev'"),
        ("wavekeep-server", &["quarantine", "lsit"], "'list'"),
    ] {
        let output = Command::new(binary(program).unwrap()).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && said.contains(meant),
            "{program} {words:?}: {said}"
        );
    }
}
