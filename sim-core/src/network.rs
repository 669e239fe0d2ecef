//! A network: resources and their capacity over time; immutable and shared by every run.

use std::sync::Arc;

use crate::capacity::CapacityProfile;
use crate::id::ResourceId;

/// Collects resources.
#[derive(Clone, Debug, Default)]
pub struct NetworkBuilder {
    capacities: Vec<CapacityProfile>,
    latencies: Vec<Option<CapacityProfile>>,
}

impl NetworkBuilder {
    /// No resources yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a resource with this capacity over time.
    ///
    /// # Panics
    /// When there are 2^32 resources already.
    pub fn resource(&mut self, capacity: CapacityProfile) -> ResourceId {
        let id = u32::try_from(self.capacities.len()).expect("fewer than 2^32 resources");
        self.capacities.push(capacity);
        self.latencies.push(None);
        ResourceId(id)
    }

    /// Gives a resource a latency over time: what a transfer over it waits, on top of its own latency, before its first
    /// byte. The profile's values are read as raw picoseconds ([`Rate::raw`](crate::Rate::raw)) at the transfer's start.
    ///
    /// # Panics
    /// When the resource is not of this builder.
    pub fn latency(&mut self, resource: ResourceId, picoseconds: CapacityProfile) {
        self.latencies[resource.index()] = Some(picoseconds);
    }

    /// The network.
    pub fn build(self) -> Network {
        let varied = self.latencies.iter().any(Option::is_some);
        let latencies = if varied { self.latencies } else { Vec::new() };
        Network { capacities: self.capacities.into(), latencies: latencies.into() }
    }
}

/// Resources with their capacity over time; a clone shares them.
#[derive(Clone, Debug)]
pub struct Network {
    capacities: Arc<[CapacityProfile]>,
    /// Empty when no resource has a latency of its own.
    latencies: Arc<[Option<CapacityProfile>]>,
}

impl Network {
    /// How many resources there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.capacities.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.capacities.is_empty()
    }

    /// The capacity of a resource over time.
    ///
    /// # Panics
    /// When the resource is not of this network.
    #[inline]
    pub fn capacity(&self, resource: ResourceId) -> &CapacityProfile {
        &self.capacities[resource.index()]
    }

    /// The latency of a resource over time, if it has one; values are picoseconds.
    #[inline]
    pub fn latency(&self, resource: ResourceId) -> Option<&CapacityProfile> {
        self.latencies.get(resource.index()).and_then(Option::as_ref)
    }

    /// Whether any resource has a latency over time.
    #[inline]
    pub(crate) fn has_latencies(&self) -> bool {
        !self.latencies.is_empty()
    }
}

impl Default for Network {
    fn default() -> Self {
        NetworkBuilder::new().build()
    }
}
