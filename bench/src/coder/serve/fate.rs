//! What becomes of a connection with its replica.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1::UpgradeableConnection;
use hyper::service::HttpService;
use tokio::sync::watch;

use super::{Bytes, Fate, Full, Incoming, Io};

/// Connections that were cut off stay as they are for so long, as nobody hears of their clients' end.
const CUT_TIME_MAX: Duration = Duration::from_secs(600);

/// Waits until the fate is another. A replica that was started again leaves those of before with the one they had.
pub(super) async fn changes(fate: &mut watch::Receiver<Fate>) {
    if fate.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits while nothing is done for the connections of a replica; false: they are not to go on.
pub(super) async fn thaws(fate: &mut watch::Receiver<Fate>) -> bool {
    let wait = async {
        while matches!(*fate.borrow_and_update(), Fate::Frozen | Fate::Cut) {
            changes(fate).await;
        }
    };
    tokio::time::timeout(CUT_TIME_MAX, wait).await.is_ok() && *fate.borrow() != Fate::Killed
}

/// Serves requests on a connection until it ends or has to.
pub(super) async fn share<S>(
    mut fate: watch::Receiver<Fate>,
    connection: UpgradeableConnection<Io, S>,
    reset: &AtomicBool,
) where
    S: HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    loop {
        let is = *fate.borrow_and_update();
        match is {
            Fate::Alive => {}
            Fate::Draining => connection.as_mut().graceful_shutdown(),
            Fate::Frozen | Fate::Cut | Fate::Killed => {
                if !thaws(&mut fate).await {
                    return reset.store(true, Ordering::Relaxed);
                }
                continue;
            }
        }
        tokio::select! {
            () = changes(&mut fate) => {}
            // A client that goes away is no error of ours.
            _ = connection.as_mut() => return,
        }
    }
}
