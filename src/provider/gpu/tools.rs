//! Programs that are called beside NVML, each from an argument vector and with a time limit.
//!
//! A program that is not installed is told apart from one that fails.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// The most a service may take to stop or to start: systemd's own default is 90 s each.
const SERVICE_LIMIT: Duration = Duration::from_secs(120);

/// The most a reset, or the description of the devices, may take: both are done within seconds.
const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// Characters of a program's complaint that are told.
const COMPLAINT_MAX: usize = 300;

/// The programs, by name or path.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `systemctl`.
    pub systemctl: PathBuf,
    /// `nvidia-ctk` of the container toolkit.
    pub nvidia_ctk: PathBuf,
    /// `nvidia-smi`, for a reset, which NVML cannot do.
    pub nvidia_smi: PathBuf,
    /// Where the devices are described to containers (CDI).
    pub cdi_spec: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            systemctl: "systemctl".into(),
            nvidia_ctk: "nvidia-ctk".into(),
            nvidia_smi: "nvidia-smi".into(),
            cdi_spec: "/etc/cdi/nvidia.yaml".into(),
        }
    }
}

/// How a program ended.
pub(super) enum Ran {
    /// Well.
    Well,
    /// It is not installed.
    Absent,
    /// Badly, with what it said.
    Badly(String),
}

impl Tools {
    /// Stops or starts a unit.
    pub(super) async fn service(&self, verb: &str, unit: &str) -> Ran {
        let mut command = Command::new(&self.systemctl);
        command.args([verb, "--", unit]);
        run(command, SERVICE_LIMIT).await
    }

    /// Describes the devices there are now to containers.
    pub(super) async fn refresh_cdi(&self) -> Ran {
        let mut command = Command::new(&self.nvidia_ctk);
        command.args(["cdi", "generate", "--output"]).arg(&self.cdi_spec);
        run(command, TOOL_LIMIT).await
    }

    /// Resets one GPU.
    pub(super) async fn reset(&self, gpu: &str) -> Ran {
        let mut command = Command::new(&self.nvidia_smi);
        command.args(["--gpu-reset", "-i", gpu]);
        run(command, TOOL_LIMIT).await
    }
}

async fn run(mut command: Command, limit: Duration) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ran::Absent,
        Ok(Err(error)) => return Ran::Badly(error.to_string()),
        Err(_) => return Ran::Badly(format!("no end within {} s", limit.as_secs())),
    };
    if output.status.success() {
        return Ran::Well;
    }
    // Some of NVIDIA's programs complain on their standard output.
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let said: String = String::from_utf8_lossy(said).trim().chars().take(COMPLAINT_MAX).collect();
    Ran::Badly(format!("{}: {said}", output.status))
}
