//! What the benchmarks share: how a ratio is printed, how the best of several runs is taken, and the
//! large repository.
//!
//! It judges nothing by an exit code: the machine a benchmark runs on is seldom its own.

#![allow(dead_code, reason = "each benchmark uses a part")]

pub mod git;
pub mod host;
pub mod private;
pub mod repository;
pub mod rig;

use std::time::{Duration, Instant};

/// Processor time of this process, all threads: what other work on the machine cannot lengthen by
/// taking the processor away.
pub fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The shortest times seen so far; other work on the machine only ever adds.
#[derive(Debug, Clone, Copy)]
pub struct Best {
    wall: Duration,
    cpu: Duration,
}

impl Default for Best {
    fn default() -> Self {
        Self { wall: Duration::MAX, cpu: Duration::MAX }
    }
}

/// The start of a run.
pub struct Begun(Instant, Duration);

impl Begun {
    /// Now.
    pub fn now() -> Self {
        Self(Instant::now(), cpu())
    }
}

impl Best {
    /// Takes another run in.
    pub fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Begun::now();
        let result = work();
        self.take(&begun);
        result
    }

    /// Takes in a run that ends now.
    pub fn take(&mut self, begun: &Begun) {
        self.cpu = self.cpu.min(cpu() - begun.1);
        self.wall = self.wall.min(begun.0.elapsed());
    }

    /// Milliseconds by the clock on the wall.
    pub fn ms(self) -> f64 {
        self.wall.as_secs_f64() * 1000.0
    }

    /// Milliseconds of processor time.
    pub fn cpu_ms(self) -> f64 {
        self.cpu.as_secs_f64() * 1000.0
    }
}

/// One line with a figure that has a target: at most `most`.
pub fn at_most(what: &str, figure: f64, unit: &str, most: f64) {
    let word = if figure <= most { "PASS" } else { "MISS" };
    println!("  {what:<46} {figure:>9.2} {unit:<12} target {most:>5} at most  {word}");
}

/// One line with a figure that has none.
pub fn figure(what: &str, figure: f64, unit: &str) {
    println!("  {what:<46} {figure:>9.2} {unit}");
}

/// The machine, in a line.
pub fn machine() {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .collect();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let name = names.first().copied().unwrap_or("unknown");
    println!("machine: {} x {name}; load {load}", names.len());
}
