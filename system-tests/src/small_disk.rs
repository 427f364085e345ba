//! Small disks: file systems in memory, mounted in a namespace of the program's own, so that no other process sees them. Being root
//! is not needed where the kernel lets users have namespaces.

use std::os::unix::fs::MetadataExt;
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

/// Is there a disk of its own?
pub fn is_mounted(at: &Path) -> Result<bool> {
    let Some(above) = at.parent().filter(|_| at.exists()) else {
        return Ok(false);
    };
    Ok(std::fs::metadata(at)?.dev() != std::fs::metadata(above)?.dev())
}

/// Leaves it with the room that is used at this moment, and none besides.
pub fn fill(at: &Path) -> Result<()> {
    // Whoever writes to it meanwhile needs more than we saw.
    for _ in 0..100 {
        let disk = nix::sys::statvfs::statvfs(at)?;
        let used = (disk.blocks() - disk.blocks_free()) * disk.fragment_size();
        if resize(at, used).is_ok() {
            return Ok(());
        }
    }
    resize(at, 0)
}

/// Gives it so many bytes, as long as they suffice for what is on it.
pub fn resize(at: &Path, bytes: u64) -> Result<()> {
    let mut mount = Command::new("mount");
    mount.args(["-o", &format!("remount,size={bytes}")]).arg(at);
    let output = mount.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the disk at {} cannot have {bytes} bytes: {said}",
        at.display()
    );
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
