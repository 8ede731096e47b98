//! The socket of the local operator: `admin.sock` in the data folder, for its owner alone. It works
//! without a quorum and without credentials, since whoever may open it may read the store anyway.
//!
//! One request a connection: a line of JSON, answered by a line of JSON.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::app::App;

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 16 * 1024;
/// How long a client may take to send it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client waits for the answer: a backup of a large store takes minutes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3600);
/// Name of the sealed CA in a backup.
pub const SEALED_CA: &str = "ca.sealed";

/// What the operator may ask of a running controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What `/status` says.
    Status,
    /// Another log level until the next start.
    LogLevel {
        /// A level or directives.
        level: String,
    },
    /// A backup into a new folder.
    Backup {
        /// An absolute path.
        path: PathBuf,
    },
    /// Give the lead to another controller.
    HandOver,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Ok(Value),
    Error(String),
}

/// Serves the socket until the app stops.
pub async fn serve(app: App) -> anyhow::Result<()> {
    let path = app.config().folders().admin_socket();
    // The lock on the store says that no other controller runs here: what is left is of a dead one.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("removing the old socket {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = app.stopping().cancelled() => break,
            };
            if let Ok((stream, _)) = accepted {
                let app = app.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(&app, stream).await {
                        tracing::debug!(%error, "a request on the admin socket failed");
                    }
                });
            }
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

async fn answer(app: &App, stream: UnixStream) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => match act(app, request).await {
            Ok(value) => Answer::Ok(value),
            Err(error) => Answer::Error(format!("{error:#}")),
        },
        Err(error) => Answer::Error(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    Ok(())
}

async fn act(app: &App, request: Request) -> anyhow::Result<Value> {
    match request {
        Request::Status => Ok(super::status::report(app)),
        Request::LogLevel { level } => {
            let Some(log) = app.log() else {
                bail!("this process does not own its log");
            };
            log.set(&level).map_err(anyhow::Error::msg)?;
            Ok(json!({"level": log.directives()}))
        }
        Request::Backup { path } => backup(app, &path).await,
        Request::HandOver => {
            let to = app.node().hand_over().await?;
            Ok(json!({"leader_id": to}))
        }
    }
}

/// Everything that was acknowledged before the call, and the sealed CA beside it.
async fn backup(app: &App, path: &Path) -> anyhow::Result<Value> {
    if !path.is_absolute() {
        bail!("{} is not an absolute path", path.display());
    }
    // A member that is cut off backs up what it has, and the manifest says up to where.
    let index = match app.node().read().await {
        Ok(image) => image.index(),
        Err(error) => {
            tracing::warn!(error = %error.to_error(), "the backup may lack what others have acknowledged");
            app.node().image().index()
        }
    };
    app.shadow().wait_written(index).await?;
    let manifest = app.shadow().backup(path).await?;
    let sealed = app.authority().sealed(app.seal_key())?;
    crate::store::write_file(&path.join(SEALED_CA), &sealed, 0o600)?;
    Ok(serde_json::to_value(manifest)?)
}

/// Asks the controller that runs on `socket`.
pub async fn ask(socket: &Path, request: &Request) -> anyhow::Result<Value> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no controller answers on {}; is it running?",
            socket.display()
        )
    })?;
    let (reader, mut writer) = stream.into_split();
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    let mut line = String::new();
    let mut reader = BufReader::new(reader);
    tokio::time::timeout(ANSWER_TIMEOUT, reader.read_line(&mut line))
        .await
        .context("the controller did not answer")??;
    match serde_json::from_str(&line).context("the controller's answer is cut short")? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(error) => bail!(error),
    }
}
