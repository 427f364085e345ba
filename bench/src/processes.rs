//! What a process costs, from /proc: CPU time. Linux only, like the budgets.

use std::path::Path;

use anyhow::{Context, Result};

/// CPU seconds (user and system) that a process and its threads have used.
pub(crate) fn cpu_seconds(id: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is the name in parentheses, which may hold spaces.
    let rest = stat
        .rsplit_once(')')
        .context("/proc/PID/stat has a name in parentheses")?
        .1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // proc(5): in clock ticks, 100 a second on every Linux that Rust's std supports here.
    Ok(ticks / 100.0)
}

/// CPU seconds of every process whose command line names `needle` (the private Postgres' data directory, say) and of their
/// children that have been waited for.
pub(crate) fn cpu_seconds_of_tree(root: u32) -> Result<f64> {
    let mut total = cpu_seconds(root)? + cpu_seconds_of_dead_children(root)?;
    for child in children(root)? {
        total += cpu_seconds_of_tree(child).unwrap_or_default();
    }
    Ok(total)
}

fn cpu_seconds_of_dead_children(id: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let rest = stat
        .rsplit_once(')')
        .context("/proc/PID/stat has a name in parentheses")?
        .1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Ok((fields[13].parse::<f64>()? + fields[14].parse::<f64>()?) / 100.0)
}

fn children(id: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(Path::new("/proc").join(id.to_string()).join("task"))? {
        let list = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(found)
}
