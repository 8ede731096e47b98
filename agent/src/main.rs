//! `virtflow-agent`: the command line around the agent.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use virtflow_agent::arguments::{Arguments, Command, TOKEN_VARIABLE};
use virtflow_agent::check::{Severity, check};
use virtflow_agent::config::Config;
use virtflow_agent::logging::LogLevel;
use virtflow_agent::{Agent, identity, logging};

/// Threads for calls that block (libvirt, files). libvirt's lanes take at most eight of them.
const BLOCKING_THREADS_MAX: usize = 24;
/// Their stacks; what is not touched is not resident.
const THREAD_STACK_BYTES: usize = 1024 * 1024;
/// The longest token file.
const TOKEN_BYTES_MAX: u64 = 4096;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("virtflow-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config)?;
    let command = match (&arguments.command, arguments.check_config) {
        (_, true) => &Command::CheckConfig,
        (Some(command), false) => command,
        (None, false) => &Command::Run,
    };
    match command {
        Command::CheckConfig => {
            println!("{} is fine", arguments.config.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Run => runtime()?.block_on(run_agent(config, &arguments.config)),
        Command::Join {
            controller,
            ca_fingerprint,
            token_file,
        } => {
            let token = read_token(token_file.as_deref())?;
            let join = identity::join(&config, controller, ca_fingerprint, &token);
            let membership = runtime()?.block_on(join)?;
            println!(
                "host {} joined cluster {}",
                membership.host_id, membership.cluster_id
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Check => {
            let findings = runtime()?.block_on(check(&config));
            for finding in &findings {
                println!("{finding}");
            }
            let worst = findings.iter().map(|finding| finding.severity).max();
            Ok(match worst {
                Some(Severity::Fatal) => ExitCode::FAILURE,
                Some(Severity::Warning | Severity::Fine) | None => ExitCode::SUCCESS,
            })
        }
    }
}

/// One thread for everything that doesn't block: an agent waits far more than it works.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
        .context("cannot start")
}

async fn run_agent(config: Config, file: &Path) -> anyhow::Result<ExitCode> {
    let level = logging::start(&config.log)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %file.display(), "the agent starts");
    let agent = Agent::start(config).await?;
    tracing::info!(status = %agent.status_address(), "status is told");
    let end = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => reload_level(&level, file),
            }
        }
    };
    agent.run_until(end).await?;
    Ok(ExitCode::SUCCESS)
}

/// Takes the log's level from the file again. Everything else there needs a restart.
fn reload_level(level: &LogLevel, file: &Path) {
    let set = Config::load(file)
        .map_err(anyhow::Error::new)
        .and_then(|config| Ok(level.set(&config.log.level).map(|()| config.log.level)?));
    match set {
        Ok(level) => tracing::info!(level, "the log's level was set"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "the log's level stays"),
    }
}

fn read_token(file: Option<&Path>) -> anyhow::Result<String> {
    let mut token = String::new();
    if let Some(path) = file {
        let opened = std::fs::File::open(path);
        let opened = opened.with_context(|| format!("cannot open {}", path.display()))?;
        opened
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut token)
            .with_context(|| format!("cannot read {}", path.display()))?;
    } else if let Ok(given) = std::env::var(TOKEN_VARIABLE) {
        token = given;
    } else {
        let input = std::io::stdin().take(TOKEN_BYTES_MAX);
        std::io::BufReader::new(input)
            .read_to_string(&mut token)
            .context("cannot read the token from standard input")?;
    }
    let token = token.trim().to_owned();
    anyhow::ensure!(
        !token.is_empty(),
        "no token: give --token-file, set {TOKEN_VARIABLE}, or write it to standard input"
    );
    Ok(token)
}
