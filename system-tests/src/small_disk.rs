//! Small disks: file systems in memory, mounted in a namespace of the program's own, so that no other process sees them. Being root
//! is not needed where the kernel lets users have namespaces.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// Runs what is appended to it in a namespace in which [`mount`] works.
#[must_use]
pub fn namespace() -> Command {
    let mut unshare = Command::new("unshare");
    if nix::unistd::geteuid().is_root() {
        unshare.arg("--mount");
    } else {
        unshare.args(["--user", "--map-current-user", "--keep-caps", "--mount"]);
    }
    unshare
}

/// Mounts a disk of so many bytes, until the last process of the namespace ends.
pub fn mount(at: &Path, bytes: u64) -> Result<()> {
    std::fs::create_dir_all(at)?;
    let options = format!("size={bytes},mode=755");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
    let status = mount.status()?;
    ensure!(status.success(), "no disk can be mounted at {}", at.display());
    Ok(())
}

/// Unmounts it, so that its directory can be removed. What was on it is gone.
pub fn unmount(at: &Path) -> Result<()> {
    let status = Command::new("umount").arg(at).status()?;
    ensure!(status.success(), "the disk at {} cannot be unmounted", at.display());
    Ok(())
}

/// How many bytes somebody who is not root can still write there.
pub fn free_bytes(at: &Path) -> Result<u64> {
    let disk = nix::sys::statvfs::statvfs(at)?;
    Ok(disk.blocks_available() * disk.fragment_size())
}
