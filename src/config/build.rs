//! From the values of a section to the options of a node.

use std::path::PathBuf;

#[cfg(feature = "admin")]
use super::sections::AdminSection;
use super::{
    names::{BalanceName, RateAction},
    sections::{ClusterSection, LimitsSection, ListenerSection, TimeoutsSection, TracesSection},
    setting::Secret,
};
#[cfg(feature = "admin")]
use crate::app::Admin;
use crate::{
    app::{Cluster, Limits, Timeouts, Traces},
    cluster::{Balance, ClusterTls},
    gate::{Listener, RateLimit},
};

pub(super) fn limits(section: &LimitsSection) -> Limits {
    let rate = |per_second: usize| {
        let burst = section.rate_limit_burst.value.unwrap_or(per_second);
        let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
        match section.rate_limit_action {
            RateAction::Throttle => RateLimit::throttle(number(per_second), number(burst)),
            RateAction::Disconnect => RateLimit::disconnect(number(per_second), number(burst)),
        }
    };
    let limits = match section.memory.value {
        Some(memory) => Limits::new().memory(memory.map(|it| it.0)),
        None => Limits::new(),
    };
    limits
        .max_packet(section.max_packet.0)
        .max_connections(section.max_connections)
        .max_connections_per_address(section.max_connections_per_address)
        .max_in_flight(section.max_in_flight)
        .rate_limit(section.rate_limit.map(rate))
        .send_queue_bytes(section.send_queue_bytes.0)
        .send_queue_messages(section.send_queue_messages)
        .unacknowledged_bytes(section.unacknowledged_bytes.value.map(|it| it.0))
        .unacknowledged_messages(section.unacknowledged_messages.value)
        .slow_client(section.slow_client)
        .scheduler_capacity(section.scheduler_capacity)
        .max_channels(section.max_channels)
        .max_channels_per_session(section.max_channels_per_session)
}

pub(super) fn timeouts(section: &TimeoutsSection) -> Timeouts {
    Timeouts::new()
        .heartbeat(section.heartbeat)
        .handshake(section.handshake)
        .tcp_keepalive(section.tcp_keepalive)
        .handshake_check(section.handshake_check)
        .login(section.login)
        .request(section.request)
        .shutdown(section.shutdown)
        .drain(section.drain)
        .shutdown_delay(section.shutdown_delay)
        .reconnect_window(section.reconnect_window)
        .resume_window(section.resume_window)
}

pub(super) fn traces(section: &TracesSection) -> Traces {
    Traces::new()
        .ratio(section.ratio.0)
        .follow_parent(section.follow_parent)
}

pub(super) fn cluster(section: &ClusterSection) -> Option<Cluster> {
    let mut cluster = match (section.master, section.join.is_empty()) {
        (true, _) => Cluster::master().masters(section.masters.iter()),
        (false, false) => Cluster::join(section.join.iter()),
        (false, true) => return None,
    };
    let given = |value: &Option<PathBuf>| value.clone();
    if let (Some(certificate), Some(key), Some(authority)) = (
        given(&section.tls_certificate.value),
        given(&section.tls_key.value),
        given(&section.tls_authority.value),
    ) {
        let mut tls = ClusterTls::new(certificate, key, authority);
        if let Some(name) = &section.tls_server_name.value {
            tls = tls.server_name(name);
        }
        if !section.tls_client_certificates {
            tls = tls.without_client_certificates();
        }
        cluster = cluster.tls(tls);
    }
    if let Some(address) = &section.listen.value {
        cluster = cluster.listen(address);
    }
    if let Some(address) = &section.advertise.value {
        cluster = cluster.advertise(address);
    }
    if let Some(Secret(token)) = &section.token.value {
        cluster = cluster.token(token);
    }
    if let Some(interval) = section.heartbeat.value {
        cluster = cluster.heartbeat(interval);
    }
    if section.trust_go_nodes {
        cluster = cluster.trust_go_nodes();
    }
    for (key, value) in &section.metadata {
        cluster = cluster.metadata(key, value);
    }
    Some(
        cluster
            .label(&section.label)
            .balance(match section.balance {
                BalanceName::Random => Balance::Random,
                BalanceName::RoundRobin => Balance::RoundRobin,
                BalanceName::LeastLoaded => Balance::LeastLoaded,
                BalanceName::Uid => Balance::Uid,
            })
            .partition_grace(section.partition_grace)
            .link_idle_timeout(section.link_idle_timeout)
            .retry_interval(section.retry_interval)
            .max_connections(section.max_connections)
            .max_connections_per_address(section.max_connections_per_address)
            .max_unauthenticated_connections(section.max_unauthenticated_connections)
            .authentication_timeout(section.authentication_timeout),
    )
}

pub(super) fn listener(section: &ListenerSection) -> Listener {
    let address = section.address.value.clone().unwrap_or_default();
    let mut listener = match &section.websocket.value {
        Some(path) => Listener::websocket(address, path),
        None => Listener::tcp(address),
    };
    if let Some(name) = &section.name.value {
        listener = listener.name(name);
    }
    if let (Some(certificate), Some(key)) = (&section.tls_certificate.value, &section.tls_key.value)
    {
        listener = listener.tls(certificate, key);
    }
    if let Some(file) = &section.client_authorities.value {
        listener = listener.client_authorities(file);
    }
    if !section.proxy_protocol.is_empty() {
        listener = listener.proxy_protocol(section.proxy_protocol.iter().copied());
    }
    if !section.forwarded_for.is_empty() {
        listener = listener.forwarded_for(section.forwarded_for.iter().copied());
    }
    for (path, directory) in &section.files {
        listener = listener.files(path, directory);
    }
    listener.subprotocols(section.subprotocols.iter())
}

#[cfg(feature = "admin")]
pub(super) fn admin(section: &AdminSection) -> Option<Admin> {
    let mut admin = Admin::new(section.address.value.clone()?);
    if let Some(Secret(token)) = &section.token.value {
        admin = admin.token(token);
    }
    Some(section.hosts.iter().fold(admin, Admin::host))
}
