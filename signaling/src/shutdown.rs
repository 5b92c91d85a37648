//! One word that reaches every task: it is over.

use tokio::sync::watch;

/// Says it.
pub struct Stop(watch::Sender<bool>);

/// Hears it.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A pair.
pub fn channel() -> (Stop, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Shutdown(receiver))
}

impl Stop {
    /// It is over.
    pub fn stop(self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether it is over. A vanished [`Stop`] counts.
    pub fn is_over(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Resolves when it is over, at once if it is already. Cancel-safe.
    pub async fn over(&mut self) {
        let _ = self.0.wait_for(|over| *over).await;
    }
}
