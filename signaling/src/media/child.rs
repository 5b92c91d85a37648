//! The media process as a child of `uringcast serve`.

use crate::config::{Config, keys};
use crate::error::StartError;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// After [`sfu::control::protocol::Request::Shutdown`] media says goodbye to every client; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Knows how to start media, and holds it while it runs.
pub struct Launcher {
    program: PathBuf,
    variables: Vec<(String, String)>,
    control: PathBuf,
    child: Option<Child>,
}

impl Launcher {
    /// Will start this very program with the same configuration.
    ///
    /// # Errors
    /// The program's own file cannot be found.
    pub fn new(config: &Config) -> Result<Launcher, StartError> {
        let program = std::env::current_exe()
            .map_err(|cause| StartError::MediaSpawn { path: PathBuf::from("/proc/self/exe"), cause })?;
        let (variables, control) = (config.settings.variables(), config.control.clone());
        Ok(Launcher { program, variables, control, child: None })
    }

    /// Starts media unless the last one still runs.
    ///
    /// It gets a process group of its own and no parent-death signal: neither a Ctrl-C at the terminal nor the end of
    /// signaling may cost a viewer a packet.
    ///
    /// # Errors
    /// The kernel does not start it.
    pub fn start(&mut self) -> Result<(), StartError> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        // The settings are passed whole, so the file is not read again; the token is none of media's business.
        for key in keys::KEYS {
            command.env_remove(key.variable());
        }
        command.env_remove("NOTIFY_SOCKET").envs(self.variables.iter().cloned());
        command.arg("media").arg("--control").arg(&self.control);
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let child =
            command.spawn().map_err(|cause| StartError::MediaSpawn { path: self.program.clone(), cause })?;
        tracing::info!(pid = child.id(), "media started");
        self.child = Some(child);
        Ok(())
    }

    /// Whether the child runs. Logs its end once.
    pub fn is_running(&mut self) -> bool {
        match self.exit_status() {
            Some(status) => {
                tracing::error!(%status, "the media process ended");
                self.child = None;
                false
            }
            None => self.child.is_some(),
        }
    }

    /// How the child ended, if it did.
    pub fn exit_status(&mut self) -> Option<std::process::ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Waits for the child's end and kills it if it does not come.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
            tracing::error!("the media process did not stop in time and is killed");
            let _ = child.kill().await;
        }
    }
}
