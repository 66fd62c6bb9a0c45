//! One stack per transport and local address: Via and Contact of everything that leaves it are right without asking.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::stack::Stack;
use super::{Local, Timers};

/// A place that listens. Cheap to clone; closed with the last one who holds it.
#[derive(Clone)]
pub struct Endpoint(pub(super) Arc<Stack>);

impl Endpoint {
    /// As far sides are told.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// All endpoints of an engine.
#[derive(Default)]
pub struct Endpoints {
    timers: Timers,
    open: HashMap<Local, Endpoint>,
}

impl Endpoints {
    pub fn new(timers: Timers) -> Self {
        Self { timers, open: HashMap::new() }
    }

    /// The endpoint of this address, opened with its first trunk. Within a tokio runtime.
    pub async fn at(&mut self, local: &Local) -> Result<Endpoint, String> {
        if let Some(endpoint) = self.open.get(local) {
            return Ok(endpoint.clone());
        }
        let endpoint = Endpoint(Arc::new(Stack::open(local, self.timers).await?));
        self.open.insert(local.clone(), endpoint.clone());
        Ok(endpoint)
    }
}
