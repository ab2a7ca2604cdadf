//! What values of several keys cannot say together.

use super::reader::Settings;

/// Lists what is wrong with values that are right by themselves.
pub(super) fn contradictions(settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |is: bool, text: String| {
        if is {
            faults.push(text);
        }
    };
    let cluster = &settings.cluster;
    let both = cluster.token.value.is_some() && cluster.token_file.value.is_some();
    fault(
        both,
        "cluster.token and cluster.token_file: only one may be set".to_owned(),
    );
    let admin = &settings.admin;
    let both = admin.token.value.is_some() && admin.token_file.value.is_some();
    fault(
        both,
        "admin.token and admin.token_file: only one may be set".to_owned(),
    );
    let missing = !cfg!(feature = "admin") && admin.address.value.is_some();
    fault(
        missing,
        "admin.address: built without the feature admin".to_owned(),
    );
    let both = cluster.master && !cluster.join.is_empty();
    fault(
        both,
        "cluster.master and cluster.join: only one may be set".to_owned(),
    );
    fault(
        !cluster.master && !cluster.masters.is_empty(),
        "cluster.masters is for masters: set cluster.master, or name them in cluster.join"
            .to_owned(),
    );
    let is_member = cluster.master || !cluster.join.is_empty();
    for (key, address) in [
        ("listen", &cluster.listen),
        ("advertise", &cluster.advertise),
    ] {
        fault(
            address.value.is_some() && !is_member,
            format!("cluster.{key} needs cluster.master or cluster.join"),
        );
    }
    let tls = [
        &cluster.tls_certificate,
        &cluster.tls_key,
        &cluster.tls_authority,
    ];
    let set = tls.iter().filter(|file| file.value.is_some()).count();
    fault(
        set == 1 || set == 2,
        "cluster.tls_certificate, cluster.tls_key and cluster.tls_authority: all three are needed"
            .to_owned(),
    );
    for (index, listener) in settings.listeners.iter().enumerate() {
        let certificate = listener.tls_certificate.value.is_some();
        let only_one = certificate != listener.tls_key.value.is_some();
        let name = format!("listeners.{index}");
        fault(
            only_one,
            format!("{name}: tls_certificate and tls_key are needed together"),
        );
        let websocket = [
            ("forwarded_for", !listener.forwarded_for.is_empty()),
            ("subprotocols", !listener.subprotocols.is_empty()),
            ("files", !listener.files.is_empty()),
        ];
        for (key, set) in websocket {
            let alone = set && listener.websocket.value.is_none();
            fault(alone, format!("{name}.{key} needs {name}.websocket"));
        }
    }
    let limits = &settings.limits;
    for (key, too_large) in [
        (
            "rate_limit",
            limits
                .rate_limit
                .is_some_and(|it| u32::try_from(it).is_err()),
        ),
        (
            "rate_limit_burst",
            limits
                .rate_limit_burst
                .value
                .is_some_and(|it| u32::try_from(it).is_err()),
        ),
    ] {
        fault(too_large, format!("limits.{key}: at most {}", u32::MAX));
    }
    faults
}
