//! What a web server of this machine can do at best: nginx, with the same body, a check of the same header, and TLS.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use virtflow_testkit::cloud::Place;
use virtflow_testkit::packages;
use virtflow_testkit::poll;
use virtflow_testkit::rig::control::Service;
use virtflow_testkit::rig::{NodeSpec, lan};

const PACKAGE: &str = "nginx";
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Adds the machine that it is to run on.
pub(super) fn add(place: &mut Place) -> Result<()> {
    place.rig.add(NodeSpec {
        name: PACKAGE.to_owned(),
        address: lan::address(90),
        hypervisor: false,
    })?;
    Ok(())
}

/// Starts it there, from Debian's package, which is unpacked in `programs` and not installed: installed, it
/// would serve on this machine. It answers `authorization` (a header's value) with `body`, everyone else
/// with 401. Returns its origin.
pub(super) fn start(
    place: &Place,
    programs: &Path,
    authorization: &str,
    body: &str,
) -> Result<String> {
    fs::create_dir_all(programs).with_context(|| format!("creating {}", programs.display()))?;
    let unpacked = packages::unpacked(programs, PACKAGE, || Ok(PACKAGE.to_owned()))?;
    // Both stand in quotes of its configuration.
    for text in [authorization, body] {
        ensure!(
            !text.contains(['\'', '$', '\\']),
            "nginx would read more than a text in {text}"
        );
    }
    let node = place.node(PACKAGE)?;
    let address = node.address();
    let folder = node.directory().to_path_buf();
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    node.call(
        "openssl",
        &[
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-subj",
            "/CN=nginx",
            "-keyout",
            &key.to_string_lossy(),
            "-out",
            &certificate.to_string_lossy(),
        ],
    )?;
    let file = folder.join("nginx.conf");
    let text = format!(
        "daemon off;\nuser root;\nworker_processes auto;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         \x20 fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n  keepalive_requests 100000000;\n  server {{\n    listen {address}:8443 ssl;\n\
         \x20   ssl_certificate {certificate};\n    ssl_certificate_key {key};\n    default_type application/json;\n\
         \x20   location / {{\n      if ($http_authorization != '{authorization}') {{ return 401; }}\n\
         \x20     return 200 '{body}';\n    }}\n  }}\n}}\n",
        folder = folder.display(),
        certificate = certificate.display(),
        key = key.display(),
    );
    fs::write(&file, text)?;
    node.start_service(Service {
        name: PACKAGE.to_owned(),
        argv: vec![
            unpacked
                .join("usr/sbin/nginx")
                .to_string_lossy()
                .into_owned(),
            "-e".to_owned(),
            folder.join("nginx.log").to_string_lossy().into_owned(),
            "-c".to_owned(),
            file.to_string_lossy().into_owned(),
        ],
        environment: Default::default(),
        log: folder.join("nginx.out"),
        restart_after_ms: None,
    })?;
    let origin = format!("https://{address}:8443");
    poll::until("nginx to answer", START_TIMEOUT, || {
        let said = node.call(
            "curl",
            &[
                "--silent",
                "--insecure",
                "--write-out",
                "%{http_code}",
                "--output",
                "/dev/null",
                &origin,
            ],
        );
        Ok(said.is_ok_and(|status| status == "401").then_some(()))
    })
    .with_context(|| fs::read_to_string(folder.join("nginx.log")).unwrap_or_default())?;
    Ok(origin)
}
