//! Creates the handles of one node: each writes to the recorder of the process, and on a node with
//! an admin address to the node's own registry too.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};

#[cfg(feature = "admin")]
use super::registry::Registry;

/// The metrics of one node, by its label.
#[derive(Debug, Clone)]
pub(crate) struct Handles {
    node: SharedString,
    #[cfg(feature = "admin")]
    registry: Option<Arc<Registry>>,
}

type Labels = Vec<(&'static str, SharedString)>;

impl Handles {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: SharedString::from_shared(Arc::from(node)),
            #[cfg(feature = "admin")]
            registry: None,
        }
    }

    /// The node keeps its metrics itself, too.
    #[cfg(feature = "admin")]
    pub(crate) fn with_registry(mut self, registry: Option<Arc<Registry>>) -> Self {
        self.registry = registry;
        self
    }

    /// The node's name, the value of the label `node`.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Whether the node keeps its metrics itself. If not, what is costly is not measured.
    pub(crate) fn is_recorded(&self) -> bool {
        #[cfg(feature = "admin")]
        return self.registry.is_some();
        #[cfg(not(feature = "admin"))]
        false
    }

    pub(crate) fn counter(&self, name: &'static str) -> Counter {
        self.counter_with(name, &[])
    }

    pub(crate) fn gauge(&self, name: &'static str) -> Gauge {
        self.gauge_with(name, &[])
    }

    pub(crate) fn gauge_with(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        let labels = self.labels(labels);
        let gauge = gauge!(name, &labels);
        #[cfg(feature = "admin")]
        if let Some(registry) = &self.registry {
            return registry.gauge(name, labels, gauge);
        }
        gauge
    }

    pub(crate) fn histogram(&self, name: &'static str) -> Histogram {
        self.histogram_with(name, &[])
    }

    pub(crate) fn counter_with(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        let labels = self.labels(labels);
        let counter = counter!(name, &labels);
        #[cfg(feature = "admin")]
        if let Some(registry) = &self.registry {
            return registry.counter(name, labels, counter);
        }
        counter
    }

    pub(crate) fn histogram_with(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        let labels = self.labels(labels);
        let histogram = histogram!(name, &labels);
        #[cfg(feature = "admin")]
        if let Some(registry) = &self.registry {
            return registry.histogram(name, labels, histogram);
        }
        histogram
    }

    fn labels(&self, more: &[(&'static str, &str)]) -> Labels {
        let more = more
            .iter()
            .map(|(name, value)| (*name, SharedString::from((*value).to_owned())));
        [("node", self.node.clone())]
            .into_iter()
            .chain(more)
            .collect()
    }
}
