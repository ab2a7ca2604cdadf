//! An application and its part in a cluster, configured together.

use std::time::Duration;

use nano::{
    App, Balance, Cluster, ClusterTls, Component, Limits, Member, Options, Pipeline, Result,
    Serializer, Session, Timeouts, tonic::transport::Endpoint,
};

/// An [`App`] and the [`Cluster`] it will get, so that helpers can add to both.
pub(crate) struct MemberApp {
    app: App,
    cluster: Cluster,
}

impl MemberApp {
    pub(crate) fn new(app: App, cluster: Cluster) -> Self {
        Self { app, cluster }
    }

    /// Changes the application.
    pub(crate) fn app(self, change: impl FnOnce(App) -> App) -> Self {
        Self {
            app: change(self.app),
            ..self
        }
    }

    /// Changes its part in the cluster.
    pub(crate) fn cluster(self, change: impl FnOnce(Cluster) -> Cluster) -> Self {
        Self {
            cluster: change(self.cluster),
            ..self
        }
    }

    pub(crate) async fn start(self) -> Result<nano::Node> {
        App::from(self).start().await
    }
}

impl From<MemberApp> for App {
    fn from(MemberApp { app, cluster }: MemberApp) -> Self {
        app.cluster(cluster)
    }
}

/// Options of the cluster.
impl MemberApp {
    pub(crate) fn listen(self, address: impl Into<String>) -> Self {
        self.cluster(|cluster| cluster.listen(address))
    }

    pub(crate) fn advertise(self, address: impl Into<String>) -> Self {
        self.cluster(|cluster| cluster.advertise(address))
    }

    pub(crate) fn label(self, label: impl Into<String>) -> Self {
        self.cluster(|cluster| cluster.label(label))
    }

    pub(crate) fn heartbeat(self, interval: Duration) -> Self {
        self.cluster(|cluster| cluster.heartbeat(interval))
    }

    pub(crate) fn retry_interval(self, interval: Duration) -> Self {
        self.cluster(|cluster| cluster.retry_interval(interval))
    }

    pub(crate) fn partition_grace(self, grace: Duration) -> Self {
        self.cluster(|cluster| cluster.partition_grace(grace))
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.cluster(|cluster| cluster.token(token))
    }

    pub(crate) fn tls(self, tls: ClusterTls) -> Self {
        self.cluster(|cluster| cluster.tls(tls))
    }

    pub(crate) fn balance(self, policy: Balance) -> Self {
        self.cluster(|cluster| cluster.balance(policy))
    }

    pub(crate) fn select_member(
        self,
        choose: impl Fn(&Session, &str, &[Member]) -> Result<Option<Member>> + Send + Sync + 'static,
    ) -> Self {
        self.cluster(|cluster| cluster.select_member(choose))
    }

    pub(crate) fn on_member_joined(
        self,
        callback: impl Fn(&Member) + Send + Sync + 'static,
    ) -> Self {
        self.cluster(|cluster| cluster.on_member_joined(callback))
    }

    pub(crate) fn on_member_left(self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.cluster(|cluster| cluster.on_member_left(callback))
    }

    pub(crate) fn on_unregister(self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.cluster(|cluster| cluster.on_unregister(callback))
    }

    pub(crate) fn grpc_endpoint(
        self,
        configure: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> Self {
        self.cluster(|cluster| cluster.grpc_endpoint(configure))
    }
}

/// Options of the application.
impl MemberApp {
    pub(crate) fn component<S: Serializer, C: Component<S>>(self, component: C) -> Self {
        self.app(|app| app.component(component))
    }

    pub(crate) fn component_with<S: Serializer, C: Component<S>>(
        self,
        component: C,
        options: Options,
    ) -> Self {
        self.app(|app| app.component_with(component, options))
    }

    pub(crate) fn tcp(self, address: &str) -> Self {
        self.app(|app| app.tcp(address))
    }

    pub(crate) fn limits(self, limits: Limits) -> Self {
        self.app(|app| app.limits(limits))
    }

    pub(crate) fn timeouts(self, timeouts: Timeouts) -> Self {
        self.app(|app| app.timeouts(timeouts))
    }

    pub(crate) fn io_threads(self, threads: usize) -> Self {
        self.app(|app| app.io_threads(threads))
    }

    pub(crate) fn pipeline(self, pipeline: Pipeline) -> Self {
        self.app(|app| app.pipeline(pipeline))
    }
}
