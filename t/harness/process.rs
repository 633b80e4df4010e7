//! Processes: signals, and figures from `/proc`.

use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, getrlimit, kill_process, pidfd_getfd, pidfd_open,
    setrlimit,
};
use socket2::Socket;
use std::collections::HashSet;
use std::fs;
use std::process::Child;
use std::time::Instant;

/// Sends a signal to one of our processes. It is no error if the process has ended.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a pid");
    let _ = kill_process(pid, signal);
}

/// Raises this process's descriptor limit to the maximum: crowds need more than the usual 1,024.
pub fn allow_many_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("RLIMIT_NOFILE raised to its maximum");
}

/// Waits until a child has exited or the time is over. Returns whether it has exited.
pub fn exits_before(child: &mut Child, end: Instant) -> bool {
    while Instant::now() < end {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    false
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// The title of a process, such as `nginx: worker process`.
pub fn title(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line)
        .trim_end_matches('\0')
        .replace('\0', " ")
}

/// The number of threads of a process.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The number of open file descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The CPU time used by a process, user and system, in clock ticks (100 a second).
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return 0;
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// How often a process has gone to sleep voluntarily. A process that keeps waking up keeps
/// counting.
pub fn voluntary_switches(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

/// The resident memory of a process in bytes, without file-backed pages.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap_or("0 kB");
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// The memory of a process in bytes that is not backed by files, with its share of pages shared
/// with other processes (PSS). It excludes the pages of programs and libraries: their share grows
/// whenever another process that uses them ends, such as the nginx of a concurrent test.
pub fn proportional_bytes(pid: u32) -> u64 {
    rolled_up(pid, "Pss_Anon:") + rolled_up(pid, "Pss_Shmem:")
}

/// The memory of a process in bytes that is not backed by files, counted page by page. The figures
/// of `/proc/PID/status` may lag by some hundred KiB.
pub fn anonymous_bytes(pid: u32) -> u64 {
    rolled_up(pid, "Anonymous:")
}

fn rolled_up(pid: u32, field: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("a figure of smaps_rollup") * 1024
}

/// The number of established TCP connections from a process to a port of 127.0.0.1.
pub fn connections_to(pid: u32, port: u16) -> usize {
    let inodes = sockets_of(pid);
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let wanted = format!("0100007F:{port:04X}");
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row[2] == wanted && row[3] == "01" && inodes.contains(row[9]))
        .count()
}

/// Duplicates of the sockets that a process has accepted at a port, for reading their options.
/// `None` if the system forbids it, as in a container without `CAP_SYS_PTRACE`.
pub fn accepted_at(pid: u32, port: u16) -> Option<Vec<Socket>> {
    let process = Pid::from_raw(pid as i32).expect("a pid");
    let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
    let mut accepted = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let socket = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(copy) => Socket::from(copy),
            Err(Errno::PERM | Errno::NOSYS) => return None,
            Err(_) => continue, // closed meanwhile
        };
        let local = socket
            .local_addr()
            .ok()
            .and_then(|local| local.as_socket_ipv4());
        if local.is_some_and(|local| local.port() == port) && socket.peer_addr().is_ok() {
            accepted.push(socket);
        }
    }
    Some(accepted)
}

/// The bytes that the kernel holds for the peer of a TCP connection of 127.0.0.1: sent and not yet
/// acknowledged, or not yet sent. `None` if there is no such connection.
pub fn send_queue_bytes(local: u16, remote: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let ends = [
        format!("0100007F:{local:04X}"),
        format!("0100007F:{remote:04X}"),
    ];
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.len() > 4 && row[1] == ends[0] && row[2] == ends[1])?;
    Some(u64::from_str_radix(&row[4][..8], 16).expect("a hexadecimal number"))
}

fn sockets_of(pid: u32) -> HashSet<String> {
    let Ok(dir) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    dir.flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect()
}
