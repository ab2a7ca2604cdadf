use std::path::{Path, PathBuf};

use nano::{Listener, Node};
use tokio::process::Command;

use crate::{
    address_seen, free_port, player,
    program::{Program, no_session},
    proxies, start, stays_for_three_idle_timeouts,
};

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

async fn nginx(port: u16, blocks: String) -> Program {
    let config = |directory: &Path| {
        let directory = directory.display();
        format!(
            "load_module {STREAM_MODULE};\n\
             daemon off;\nmaster_process off;\nworker_processes 1;\n\
             pid {directory}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 64; }}\n\
             {blocks}"
        )
    };
    let command = |directory: &Path, file: PathBuf| {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(directory).arg("-c").arg(file);
        command
    };
    Program::start(config, command, port).await
}

fn server(node: &Node) -> String {
    node.addresses()[0].to_string()
}

#[tokio::test]
#[ignore = "slow: needs nginx"]
async fn nginx_http_forwards_the_players_address_and_heartbeats_keep_the_connection() {
    let listener = Listener::websocket("127.0.0.1:0", "/nano").forwarded_for(proxies());
    let node = start(listener).await;
    let port = free_port();
    let server = server(&node);
    let blocks = format!(
        "http {{ access_log off; server {{ listen 127.0.0.1:{port};\n\
         location /nano {{\n\
           proxy_pass http://{server};\n\
           proxy_http_version 1.1;\n\
           proxy_set_header Upgrade $http_upgrade;\n\
           proxy_set_header Connection upgrade;\n\
           proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
           proxy_set_header Forwarded \"\";\n\
           proxy_read_timeout 2s;\n\
           proxy_send_timeout 2s;\n\
         }} }} }}"
    );
    let _nginx = nginx(port, blocks).await;
    let client = player("ws", port, "/nano").await;
    assert_eq!(address_seen(&client).await, "127.0.5.7");
    stays_for_three_idle_timeouts(&client).await;
    drop(client);
    no_session(&node).await;
}

#[tokio::test]
#[ignore = "slow: needs nginx"]
async fn nginx_stream_tells_the_players_address_by_the_proxy_protocol() {
    let node = start(Listener::tcp("127.0.0.1:0").proxy_protocol(proxies())).await;
    let port = free_port();
    let server = server(&node);
    let blocks = format!(
        "stream {{ server {{ listen 127.0.0.1:{port};\n\
         proxy_pass {server};\n\
         proxy_protocol on;\n\
         proxy_timeout 2s; }} }}"
    );
    let _nginx = nginx(port, blocks).await;
    let client = player("tcp", port, "").await;
    assert_eq!(address_seen(&client).await, "127.0.5.7");
    stays_for_three_idle_timeouts(&client).await;
    drop(client);
    no_session(&node).await;
}
