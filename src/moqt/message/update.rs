//! REQUEST_UPDATE (§10.9) as the application sees it, and its good answer.

use std::time::Duration;

use super::{Filter, Location, Parameters, Token};
use crate::moqt::name::TrackNamespace;

/// What is to change in a request. What is left out stays; nothing can be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub tokens: Vec<Token>,
    pub forward: Option<bool>,
    pub filter: Option<Filter>,
    pub priority: Option<u8>,
    pub object_delivery_timeout: Option<Duration>,
    pub subgroup_delivery_timeout: Option<Duration>,
    /// Only of a track that said DYNAMIC_GROUPS (§10.2.13).
    pub new_group_request: Option<u64>,
    /// Of a SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS.
    pub prefix: Option<TrackNamespace>,
}

/// REQUEST_OK to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateOk {
    /// The track's largest object now: what lies before it has to be fetched (§10.9.1).
    pub largest: Option<Location>,
    /// How long the request goes on from here.
    pub expires: Option<Duration>,
}

impl Update {
    /// Brings tokens, and changes nothing else.
    pub fn renewal(tokens: Vec<Token>) -> Self {
        Self { tokens, ..Self::default() }
    }

    pub fn from_parameters(parameters: Parameters) -> Self {
        Self {
            tokens: parameters.tokens,
            forward: parameters.forward,
            filter: parameters.filter,
            priority: parameters.priority,
            object_delivery_timeout: parameters.object_delivery_timeout,
            subgroup_delivery_timeout: parameters.subgroup_delivery_timeout,
            new_group_request: parameters.new_group_request,
            prefix: parameters.namespace_prefix,
        }
    }

    pub fn parameters(&self) -> Parameters {
        Parameters {
            tokens: self.tokens.clone(),
            forward: self.forward,
            filter: self.filter,
            priority: self.priority,
            object_delivery_timeout: self.object_delivery_timeout,
            subgroup_delivery_timeout: self.subgroup_delivery_timeout,
            new_group_request: self.new_group_request,
            namespace_prefix: self.prefix.clone(),
            ..Parameters::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Both at once; where they speak of the same, `later` counts.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        Self {
            tokens: if later.tokens.is_empty() { self.tokens } else { later.tokens },
            forward: later.forward.or(self.forward),
            filter: later.filter.or(self.filter),
            priority: later.priority.or(self.priority),
            object_delivery_timeout: later.object_delivery_timeout.or(self.object_delivery_timeout),
            subgroup_delivery_timeout: later.subgroup_delivery_timeout.or(self.subgroup_delivery_timeout),
            new_group_request: later.new_group_request.or(self.new_group_request),
            prefix: later.prefix.or(self.prefix),
        }
    }
}

impl UpdateOk {
    pub fn from_parameters(parameters: &Parameters) -> Self {
        Self { largest: parameters.largest, expires: parameters.expires.filter(|expires| !expires.is_zero()) }
    }

    pub fn parameters(&self) -> Parameters {
        Parameters { largest: self.largest, expires: self.expires, ..Parameters::default() }
    }
}
