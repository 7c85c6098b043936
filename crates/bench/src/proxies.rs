//! The proxies that are measured: each with one worker held to one processor, no access log, connections that last on
//! both sides, the same headers added.

use crate::{
    bench::{Bench, write},
    peer::Peer,
    process::{Running, command, free_port, output, pinned},
    report::{OURS, Report},
    upstream::nginx_settings,
};
use allod_proto::routes::{FORMAT, Route, RouteLimits, RoutePattern, RouteTable, RouteTarget, Upstream};
use anyhow::{Result, anyhow};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants it.
    pub(crate) both: PathBuf,
    /// The folder with the first two and nothing else, as Allod wants it.
    pub(crate) folder: PathBuf,
}

impl Certificate {
    /// A fresh self-signed one for `localhost`, P-256.
    pub(crate) fn make(bench: &Bench, openssl: &Peer) -> Result<Self> {
        let folder = bench.folder("certificate")?;
        let both = bench.folder("certificate-and-key")?.join("both.pem");
        let (certificate, key) = (folder.join("localhost.pem"), folder.join("localhost.key"));
        let mut making = command(&openssl.program);
        making.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        making.args([
            "-days",
            "30",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ]);
        making.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        output("openssl", making)?;
        write(&both, &(std::fs::read_to_string(&certificate)? + &std::fs::read_to_string(&key)?))?;
        Ok(Self { certificate, key, both, folder })
    }
}

/// A proxy that runs.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) running: Running,
    pub(crate) port: u16,
}

/// What all proxies of a row are told.
pub(crate) struct Setting<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) upstream: u16,
    pub(crate) processor: usize,
    /// With one, they speak TLS, HTTP/2 and HTTP/1.1.
    pub(crate) tls: Option<Certificate>,
}

/// A proxy that is here and can be started.
pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    peer: Peer,
    start: Start,
}

impl Candidate {
    pub(crate) fn start(&self, setting: &Setting<'_>) -> Result<Proxy> {
        (self.start)(setting, &self.peer)
    }
}

type Start = fn(&Setting<'_>, &Peer) -> Result<Proxy>;

/// Allod's proxy and each peer that is here.
pub(crate) fn candidates(bench: &Bench, report: &mut Report) -> Vec<Candidate> {
    let peers: [(&'static str, &[&str], Start); 4] = [
        ("nginx", &["-v"], nginx),
        ("haproxy", &["-v"], haproxy),
        ("caddy", &["version"], caddy),
        ("kamal-proxy", &["help"], kamal_proxy),
    ];
    let ours = Candidate { name: OURS, peer: bench.allod.clone(), start: allod };
    let mut all = vec![ours];
    for (name, version, start) in peers {
        all.extend(bench.peer(report, name, version).map(|peer| Candidate { name, peer, start }));
    }
    all
}

impl Setting<'_> {
    fn folder(&self, name: &str) -> Result<PathBuf> {
        self.bench.folder(&format!("{name}{}", if self.tls.is_some() { "-tls" } else { "" }))
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    fn run(
        &self,
        name: &'static str,
        program: &Path,
        folder: &Path,
        port: u16,
        arguments: impl FnOnce(&mut std::process::Command),
    ) -> Result<Proxy> {
        let mut command = pinned(program, self.processor);
        command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).env("XDG_STATE_HOME", folder);
        command.env("XDG_CONFIG_HOME", folder).env("XDG_DATA_HOME", folder).env("GOMAXPROCS", "1");
        arguments(&mut command);
        let mut running = Running::start(name, command, &folder.join("log"))?;
        running.listens(port)?;
        Ok(Proxy { name, running, port })
    }
}

fn allod(setting: &Setting<'_>, peer: &Peer) -> Result<Proxy> {
    let (folder, port) = (setting.folder(OURS)?, free_port()?);
    let routes = folder.join("routes.json");
    write(&routes, &serde_json::to_string(&table(setting.upstream)?)?)?;
    setting.run(OURS, &peer.program, &folder, port, |command| {
        command.arg("proxy").arg("--routes").arg(&routes).arg("--control").arg(folder.join("control"));
        let address = format!("127.0.0.1:{port}");
        match &setting.tls {
            None => command.args(["--listen", &address]),
            Some(certificate) => {
                command.args(["--tls-listen", &address]).arg("--certificates").arg(&certificate.folder)
            }
        };
    })
}

fn table(upstream: u16) -> Result<RouteTable> {
    let meant = |error: String| anyhow!(error);
    let target = Upstream { address: SocketAddr::from(([127, 0, 0, 1], upstream)), uid: None };
    let route = Route {
        app: "bench".parse()?,
        unit: "web".parse()?,
        release: "0123456789ab".parse()?,
        pattern: RoutePattern::parse("/").map_err(meant)?,
        strip_prefix: false,
        target: RouteTarget::Instances(vec![target]),
        limits: RouteLimits::default(),
    };
    Ok(RouteTable { format: FORMAT, generation: 1, routes: vec![route] })
}

fn nginx(setting: &Setting<'_>, peer: &Peer) -> Result<Proxy> {
    let (folder, port) = (setting.folder("nginx")?, free_port()?);
    let (listen, tls) = match &setting.tls {
        None => (format!("127.0.0.1:{port} backlog=4096"), String::new()),
        Some(Certificate { certificate, key, .. }) => (
            format!("127.0.0.1:{port} ssl http2 backlog=4096"),
            format!(
                "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; http2_max_concurrent_streams 250;",
                certificate.display(),
                key.display()
            ),
        ),
    };
    let http = format!(
        "upstream app {{ server 127.0.0.1:{}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 1h; }}
        server {{
            listen {listen}; {tls}
            location / {{
                proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";
                proxy_max_temp_file_size 0;
                proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host;
                proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
                proxy_set_header X-Request-Id $request_id;
            }}
        }}",
        setting.upstream
    );
    let file = folder.join("nginx.conf");
    write(&file, &nginx_settings(&folder.display().to_string(), &http))?;
    setting.run("nginx", &peer.program, &folder, port, |command| {
        command.arg("-p").arg(&folder).arg("-c").arg(&file).arg("-e").arg(folder.join("error"));
    })
}

fn haproxy(setting: &Setting<'_>, peer: &Peer) -> Result<Proxy> {
    let (folder, port) = (setting.folder("haproxy")?, free_port()?);
    let bind = match &setting.tls {
        None => String::new(),
        Some(certificate) => {
            format!("ssl crt {} alpn h2,http/1.1 ssl-min-ver TLSv1.3", certificate.both.display())
        }
    };
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8000\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  http-reuse always\n\
         frontend visitors\n  bind 127.0.0.1:{port} backlog 4096 {bind}\n  option forwardfor\n  \
         http-request set-header X-Forwarded-Proto {}\n  \
         http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  \
         unique-id-format %{{+X}}o%ci:%cp_%Ts_%rt\n  unique-id-header X-Request-Id\n  default_backend app\n\
         backend app\n  server app 127.0.0.1:{} pool-max-conn 512 pool-purge-delay 1h\n",
        setting.scheme(),
        setting.upstream
    );
    let file = folder.join("haproxy.cfg");
    write(&file, &text)?;
    setting.run("haproxy", &peer.program, &folder, port, |command| {
        command.arg("-db").arg("-f").arg(&file);
    })
}

fn caddy(setting: &Setting<'_>, peer: &Peer) -> Result<Proxy> {
    let (folder, port) = (setting.folder("caddy")?, free_port()?);
    let tls = match &setting.tls {
        None => String::new(),
        Some(Certificate { certificate, key, .. }) => {
            format!("tls {} {}", certificate.display(), key.display())
        }
    };
    let text = format!(
        "{{\n admin off\n auto_https off\n servers {{\n protocols h1 h2\n }}\n}}\n\
         {}://:{port} {{\n bind 127.0.0.1\n {tls}\n reverse_proxy 127.0.0.1:{} {{\n \
         header_up X-Request-Id {{http.request.uuid}}\n \
         transport http {{\n keepalive 1h\n keepalive_idle_conns_per_host 512\n compression off\n }}\n }}\n}}\n",
        setting.scheme(),
        setting.upstream
    );
    let file = folder.join("Caddyfile");
    write(&file, &text)?;
    setting.run("caddy", &peer.program, &folder, port, |command| {
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
    })
}

fn kamal_proxy(setting: &Setting<'_>, peer: &Peer) -> Result<Proxy> {
    let (folder, plain, secure) = (setting.folder("kamal-proxy")?, free_port()?, free_port()?);
    let port = if setting.tls.is_some() { secure } else { plain };
    let proxy = setting.run("kamal-proxy", &peer.program, &folder, plain, |command| {
        command.args(["run", "--http-port", &plain.to_string(), "--https-port", &secure.to_string()]);
    })?;
    let mut deploy = command(&peer.program);
    deploy.env("HOME", &folder).env("XDG_RUNTIME_DIR", &folder).env("XDG_STATE_HOME", &folder);
    deploy.args(["deploy", "bench", "--health-check-path", "/up", "--forward-headers"]);
    deploy.args(["--target", &format!("127.0.0.1:{}", setting.upstream)]);
    if let Some(Certificate { certificate, key, .. }) = &setting.tls {
        deploy.args(["--tls", "--host", "localhost", "--tls-redirect=false"]);
        deploy.arg("--tls-certificate-path").arg(certificate).arg("--tls-private-key-path").arg(key);
    }
    output("kamal-proxy deploy", deploy)?;
    Ok(Proxy { port, ..proxy })
}
