//! [`Alone`]: a phone without an engine, with a control thread of its own. `clutchcall phone` is this.

use std::net::SocketAddr;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::PhoneConfig;
use super::endpoint::Phone;

/// A running phone. Dropping it hangs up everywhere and ends its threads.
pub struct Alone {
    address: SocketAddr,
    ending: Option<oneshot::Sender<()>>,
    control: Option<JoinHandle<()>>,
}

impl Alone {
    /// Blocks until it listens. The error names what is wrong, and the remedy.
    pub fn start(config: PhoneConfig, listen: SocketAddr) -> Result<Self, String> {
        if listen.ip().is_unspecified() {
            return Err(format!("{listen} is no address that a caller could be told: name one of this machine's"));
        }
        let (ready, listening) = blocking::sync_channel(1);
        let (ending, ended) = oneshot::channel();
        let run = move || run(config, listen, &ready, ended);
        let thread = std::thread::Builder::new().name("phone-control".to_owned()).spawn(run);
        let control = thread.map_err(|error| format!("the phone's control thread can't start: {error}"))?;
        let address = listening.recv().map_err(|_| "the phone's control thread died at its start".to_owned())??;
        Ok(Self { address, ending: Some(ending), control: Some(control) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // The control thread may have gone already.
        drop(self.ending.take());
        if self.control.take().is_some_and(|control| control.join().is_err()) {
            tracing::error!("the phone's control thread panicked");
        }
    }
}

fn run(
    config: PhoneConfig,
    listen: SocketAddr,
    ready: &blocking::SyncSender<Result<SocketAddr, String>>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(format!("the phone's control thread can't begin: {error}")))),
    };
    runtime.block_on(async {
        match Phone::open(config, listen).await {
            Ok(phone) => {
                drop(ready.send(Ok(phone.address())));
                // Its owner has gone, which is the same.
                let _ = ended.await;
                phone.switch_off().await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    runtime.shutdown_background();
}
