//! What becomes of an outbox that nobody uses at the moment: its disk is cloned, or damages a file.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

/// What a damaged file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Its last third is gone.
    Cut,
    /// Three bits are others.
    Flipped,
    /// There is none.
    Gone,
}

/// All kinds.
pub const DAMAGES: [Damage; 3] = [Damage::Cut, Damage::Flipped, Damage::Gone];

/// Damages it; a seed says where.
pub fn damage(path: &Path, how: Damage, seed: usize) -> Result<()> {
    if how == Damage::Gone {
        return fs::remove_file(path);
    }
    let mut bytes = fs::read(path)?;
    if how == Damage::Cut {
        bytes.truncate(bytes.len() * 2 / 3);
    } else {
        for turn in 0..3 {
            let at = seed.wrapping_mul(7_919).wrapping_add(turn * 104_729) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (turn + 1);
            }
        }
    }
    fs::write(path, bytes)
}

/// The files of an outbox's store with this in their names, the largest first.
pub fn store_files(outbox: &Path, kind: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(outbox.join("store"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(kind) {
            files.push((entry.metadata()?.len(), entry.path()));
        }
    }
    files.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The disk of a machine as it is at this moment, under another one: what is on it, and nothing that runs; without what the outbox
/// only keeps to have room.
pub fn clone_disk(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            clone_disk(&entry.path(), &to)?;
        } else if kind.is_file() && entry.file_name() != "ballast" {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
