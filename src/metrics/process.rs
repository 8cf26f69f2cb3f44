//! What the process tells of itself, under the names that exporters use for it everywhere, and the bounds it runs with.

use super::{Maker, gauge_value};
use prometheus::{Counter, IntGauge};
use rustix::process::{Resource, getrlimit};
use std::time::Duration;

/// The metrics of the process.
#[derive(Debug)]
pub struct ProcessMetrics {
    /// `process_resident_memory_bytes`
    memory: IntGauge,
    /// `process_open_fds`
    open_files: IntGauge,
    /// `process_max_fds`
    max_files: IntGauge,
    /// `process_cpu_seconds_total`
    cpu: Counter,
    /// `process_start_time_seconds`
    start: IntGauge,
    /// `tollgate_max_connections`
    max_connections: IntGauge,
    /// `tollgate_max_partitions`
    max_partitions: IntGauge,
    /// `tollgate_max_buffer_bytes`
    max_buffers: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn new(make: &Maker) -> Result<ProcessMetrics, prometheus::Error> {
        let build = make.gauges("tollgate_build_info", "1, by the version that runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let cpu = Counter::new("process_cpu_seconds_total", "Seconds that all threads have run, kernel included.")?;
        Ok(ProcessMetrics {
            memory: make.gauge("process_resident_memory_bytes", "Bytes of memory in use.")?,
            open_files: make.gauge("process_open_fds", "Open files and sockets.")?,
            max_files: make.gauge("process_max_fds", "Files and sockets that may be open.")?,
            cpu: make.register(cpu)?,
            start: make.gauge("process_start_time_seconds", "When the process began to serve, in Unix seconds.")?,
            max_connections: make.gauge("tollgate_max_connections", "Client connections that may be open.")?,
            max_partitions: make.gauge("tollgate_max_partitions", "Partitions that may have state.")?,
            max_buffers: make.gauge("tollgate_max_buffer_bytes", "Bytes that buffers of clients may hold.")?,
        })
    }

    /// Notes when the process began to serve (Unix seconds), and the bounds that it began with and keeps to its end.
    pub fn started(&self, unix_seconds: i64, partitions: usize, buffer_bytes: usize) {
        self.start.set(unix_seconds);
        self.max_partitions.set(gauge_value(partitions as u64));
        self.max_buffers.set(gauge_value(buffer_bytes as u64));
    }

    /// Sets the gauges that are taken at a scrape. What the system does not tell keeps its last value, or none.
    pub fn take_census(&self, cpu: Duration, max_connections: usize) {
        if let Some(bytes) = resident_bytes() {
            self.memory.set(gauge_value(bytes));
        }
        if let Some(files) = open_files() {
            self.open_files.set(gauge_value(files));
        }
        self.max_files.set(getrlimit(Resource::Nofile).current.map_or(i64::MAX, gauge_value));
        self.cpu.inc_by((cpu.as_secs_f64() - self.cpu.get()).max(0.0));
        self.max_connections.set(gauge_value(max_connections as u64));
    }
}

/// As Linux says it; `None` elsewhere.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// As Linux says it; `None` elsewhere.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    // Newer kernels tell it as the folder's size: a count of entries takes a tenth of a second where there are 100,000.
    match std::fs::metadata(FOLDER).ok()?.len() {
        0 => Some(std::fs::read_dir(FOLDER).ok()?.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_process_tells_of_itself() {
        let metrics = Metrics::new().unwrap();
        let before = open_files().unwrap();
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files meanwhile.
        assert!(open_files().unwrap() > before.saturating_sub(90) && files.len() == 100);
        metrics.process.started(7, 2, 3);
        metrics.process.take_census(Duration::from_millis(1_500), 1);
        metrics.process.take_census(Duration::from_millis(2_500), 1);
        let text = metrics.text().unwrap();
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .unwrap_or_else(|| panic!("{name}"));
            line.parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert_eq!((value("process_cpu_seconds_total"), value("process_start_time_seconds")), (2.5, 7.0));
        let bounds = ["tollgate_max_connections", "tollgate_max_partitions", "tollgate_max_buffer_bytes"].map(value);
        assert_eq!(bounds, [1.0, 2.0, 3.0]);
        assert!(text.contains(&format!("tollgate_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
    }
}
