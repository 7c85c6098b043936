//! The program behind every proxy: an nginx that serves two small files from memory.

use crate::{
    bench::{Bench, write},
    peer::Peer,
    process::{Running, free_port, pinned},
};
use anyhow::Result;

/// The files it serves: path and size.
pub(crate) const FILES: [(&str, usize); 2] = [("/1k", 1024), ("/100k", 100 * 1024)];

/// It runs until it is dropped.
pub(crate) struct Upstream {
    _running: Running,
    pub(crate) port: u16,
}

impl Upstream {
    pub(crate) fn start(bench: &Bench, nginx: &Peer, processor: usize) -> Result<Self> {
        let folder = bench.folder("upstream")?;
        for (path, size) in FILES {
            write(&folder.join(path.trim_start_matches('/')), &"x".repeat(size))?;
        }
        // Health checks of peers that insist on one.
        write(&folder.join("up"), "up")?;
        let port = free_port()?;
        let http = format!(
            "open_file_cache max=16 inactive=1h; open_file_cache_valid 1h; sendfile on; tcp_nopush on;
            server {{ listen 127.0.0.1:{port} backlog=4096; root {}; }}",
            folder.display()
        );
        write(&folder.join("nginx.conf"), &nginx_settings(&folder.display().to_string(), &http))?;
        let mut command = pinned(&nginx.program, processor);
        command
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .arg("-e")
            .arg(folder.join("error"));
        let mut running = Running::start("upstream", command, &folder.join("log"))?;
        running.listens(port)?;
        Ok(Self { _running: running, port })
    }
}

/// What every nginx here has: one worker, no log, connections that last, all files in its folder.
pub(crate) fn nginx_settings(folder: &str, http: &str) -> String {
    format!(
        "daemon off; worker_processes 1; pid {folder}/pid;
        events {{ worker_connections 16000; }}
        http {{
            access_log off; error_log {folder}/error crit;
            keepalive_requests 1000000000; keepalive_timeout 1h;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            {http}
        }}\n"
    )
}
