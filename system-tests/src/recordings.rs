//! The real recordings of the shared data folder (`WAVEKEEP_SHARED`, default `../shared`), and files that are made to be hard.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Where the shared folder is.
#[must_use]
pub fn shared() -> PathBuf {
    let named = std::env::var_os("WAVEKEEP_SHARED").map(PathBuf::from);
    named.unwrap_or_else(|| {
        // Cargo runs a test in its package and says so; everything else runs at the top of the tree.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        package.map_or_else(|| "../shared".into(), |package| package.join("../../shared"))
    })
}

/// One of the PPK2 captures (`52-p`, `in-p`): little-endian f32 amperes at 100 kS/s.
pub fn ppk2(name: &str) -> Result<Vec<u8>> {
    let path = shared().join(format!("data/ppk2/{name}.zip"));
    let file =
        std::fs::File::open(&path).with_context(|| format!("{} is missing: set WAVEKEEP_SHARED", path.display()))?;
    let mut archive = zip::ZipArchive::new(file)?;
    let mut samples = Vec::new();
    archive
        .by_name(&format!("{name}/current.f32.bin"))?
        .read_to_end(&mut samples)?;
    Ok(samples)
}

/// An oscilloscope's export: little-endian f32 volts at 20 MS/s, after headers of 164 bytes (shared data, SOURCES.md).
pub fn agilent() -> Result<Vec<u8>> {
    let path = shared().join("data/scope/agilent_5.bin");
    let bytes = std::fs::read(&path).with_context(|| format!("{} is missing: set WAVEKEEP_SHARED", path.display()))?;
    Ok(bytes[164..].to_vec())
}

/// Values that a careless path alters: NaN payloads of both signs, signalling and quiet, −0.0, subnormals, infinities.
#[must_use]
pub fn awkward_f32(count: usize) -> Vec<u8> {
    const BITS: [u32; 12] = [
        0x7fc0_0000,
        0x7fc0_1234,
        0xffc0_0001,
        0x7f80_0001,
        0xff80_0001,
        0x8000_0000,
        0x0000_0000,
        0x0000_0001,
        0x807f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fff_ffff,
    ];
    let sample = |at: usize| {
        if at.is_multiple_of(3) {
            BITS[at / 3 % BITS.len()]
        } else {
            (at as f32).sin().to_bits()
        }
    };
    (0..count).flat_map(|at| sample(at).to_le_bytes()).collect()
}
