//! One signaling process per control socket: media talks to one at a time, so two would replace each other for ever.

use crate::error::StartError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The right to steer media, for as long as it is held. The kernel takes it back from a process that dies.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Takes the lock beside the control socket.
///
/// # Errors
/// Another process holds it, or its file cannot be written.
pub fn take(control: &Path) -> Result<Lock, StartError> {
    let path = lock_file(control);
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|cause| StartError::Lock { path: path.clone(), cause })?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Lock(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(StartError::SignalingRuns { control: control.into() }),
        Err((_, errno)) => Err(StartError::Lock { path, cause: errno.into() }),
    }
}

/// Not `.lock` alone, which is media's own.
fn lock_file(control: &Path) -> PathBuf {
    let mut path = control.as_os_str().to_owned();
    path.push(".signaling.lock");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_what_to_do_and_a_dead_one_is_in_nobodys_way() {
        let control = std::env::temp_dir().join(format!("uringcast-lock-{}.sock", std::process::id()));
        let first = take(&control).expect("first");
        let words = take(&control).expect_err("second").to_string();
        assert!(words.contains("Stop that one, or give this one a --state-dir"), "{words}");
        drop(first);
        take(&control).expect("free again");
        std::fs::remove_file(lock_file(&control)).expect("remove");
        let nowhere = Path::new("/nonexistent/control.sock");
        assert!(matches!(take(nowhere), Err(StartError::Lock { .. })));
    }
}
