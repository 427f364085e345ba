//! Whatever bytes an instrument sends: the agent does not panic, does not grow, and gives its sink nothing that breaks a rule.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        // To begin with, instead of fuzzing: the corpus of the emulated instrument.
        if let Some(folder) = std::env::var_os("WAVEKEEP_SEEDS") {
            for (number, seed) in wavekeep_fuzz::seeds().iter().enumerate() {
                let path = std::path::Path::new(&folder).join(format!("emulator-{number}"));
                std::fs::write(path, seed).expect("the corpus can be written");
            }
            std::process::exit(0);
        }
    },
    |data: &[u8]| wavekeep_fuzz::js220(data)
);
