//! `verify`: derives ledgers, indexes and footprints from the stored rows alone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use virtflow_shadow::{Inspection, current_state_file, inspect};
use virtflow_state::State;

use super::owner::Owner;
use super::{ConfigFile, Output, print_json};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    config: ConfigFile,
    /// A state file, such as a copy of `shadow/state.1.db` or a backup's `state.db`; without it the one
    /// that the configured data folder points at. It is only read, and may be in use.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// What a verification found.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    /// Everything that does not fit, one sentence each.
    pub(super) problems: Vec<String>,
    /// Accounts with something charged: account, limit, used.
    pub(super) accounts: Vec<(String, Option<u64>, u64)>,
}

pub(super) async fn command(verify: Verify) -> anyhow::Result<ExitCode> {
    let (file, _owner) = match verify.db {
        Some(file) => (file, None),
        None => {
            let config = verify.config.load()?;
            // Reading a database makes files beside it when nobody else has it open.
            let owner = Owner::of(&config);
            (current_state_file(&config.folders().shadow())?, owner)
        }
    };
    let inspection = inspect(&file)
        .await
        .with_context(|| format!("reading {}", file.display()))?;
    let (index, objects) = (inspection.index, inspection.objects.len());
    let findings = examine(inspection);
    let sound = findings.problems.is_empty();
    match verify.output {
        Output::Json => {
            let accounts = findings.accounts.iter().map(
                |(account, limit, used)| json!({"account": account, "limit": limit, "used": used}),
            );
            print_json(&json!({
                "file": file,
                "index": index,
                "objects": objects,
                "accounts": accounts.collect::<Vec<_>>(),
                "problems": findings.problems,
            }));
        }
        Output::Text => {
            println!(
                "{}: {objects} objects at index {index}, {} accounts in use, {}",
                file.display(),
                findings.accounts.len(),
                match findings.problems.len() {
                    0 => "all ledgers and indexes follow from the rows".to_owned(),
                    1 => "1 problem:".to_owned(),
                    n => format!("{n} problems:"),
                }
            );
            for problem in &findings.problems {
                println!("  {problem}");
            }
        }
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Compares what was stored with what follows from it.
pub(super) fn examine(inspection: Inspection) -> Findings {
    let mut findings = Findings {
        problems: inspection.unreadable,
        ..Findings::default()
    };
    let rebuilt = State::from_parts(
        inspection.cluster_id,
        inspection.incarnation,
        inspection.cluster_version,
        inspection.index,
        inspection.objects,
        inspection.streams,
    );
    let state = match rebuilt {
        Ok(state) => state,
        Err(divergence) => {
            findings.problems.push(divergence.to_string());
            return findings;
        }
    };
    if state.digest() != inspection.digest {
        findings.problems.push(format!(
            "the rows have the digest {:032x}, they were written with {:032x}: they were changed since",
            state.digest(),
            inspection.digest
        ));
    }
    let differences = virtflow_state::verify(&state);
    findings
        .problems
        .extend(differences.iter().map(ToString::to_string));
    let footprints = virtflow_logic::verify_footprints(&state);
    findings
        .problems
        .extend(footprints.iter().map(ToString::to_string));
    findings.accounts = state
        .accounts()
        .filter(|(_, account)| account.used > 0)
        .map(|(key, account)| {
            let limit = state.limit_of(key).filter(|limit| *limit != u64::MAX);
            (key.to_string(), limit, account.used)
        })
        .collect();
    findings
}
