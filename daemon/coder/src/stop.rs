//! A signal that ends a flow: what is under way is left where it stands, the ledger says the rest.

use tokio::sync::watch;

/// The one who stops.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// What is listened to. Clones hear the same.
#[derive(Debug, Clone)]
pub struct Stop(Option<watch::Receiver<bool>>);

impl Stopper {
    /// A pair. A stopper that is dropped stops nobody.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(Some(receiver)))
    }

    /// Stops every flow that listens, now and later.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// One that never comes.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Whether it is stopped.
    pub fn is_heard(&self) -> bool {
        self.0.as_ref().is_some_and(|receiver| *receiver.borrow())
    }

    /// Returns once it is stopped.
    pub async fn heard(&self) {
        if let Some(receiver) = &self.0
            && receiver.clone().wait_for(|&stopped| stopped).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
