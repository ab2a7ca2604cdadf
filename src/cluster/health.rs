//! `grpc.health.v1.Health` at the cluster's port, for probes and service meshes.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, stream};
use tokio::time::sleep;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use crate::handle::Handle;

/// Time between two looks of a watch.
const INTERVAL: Duration = Duration::from_millis(250);

/// Tells whether the node serves. All of its services do when the node is ready.
pub(super) struct HealthService {
    node: Handle,
    services: Vec<String>,
}

impl HealthService {
    pub(super) fn new(node: Handle, services: &[String]) -> Self {
        Self {
            node,
            services: services.to_vec(),
        }
    }

    /// The empty name is the node itself.
    fn is_known(&self, service: &str) -> bool {
        service.is_empty() || self.services.iter().any(|known| known == service)
    }
}

fn status(node: &Handle) -> ServingStatus {
    match node.is_ready() {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[async_trait]
impl Health for HealthService {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.is_known(&request.get_ref().service) {
            true => Ok(Response::new(response(status(&self.node)))),
            false => Err(Status::not_found("this node has no such service")),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !self.is_known(&request.get_ref().service) {
            let unknown = Ok(response(ServingStatus::ServiceUnknown));
            return Ok(Response::new(Box::pin(stream::iter([unknown]))));
        }
        let changes = stream::unfold((self.node.clone(), None), |(node, sent)| async move {
            let mut now = status(&node);
            while sent == Some(now) {
                sleep(INTERVAL).await;
                now = status(&node);
            }
            Some((Ok(response(now)), (node, Some(now))))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
