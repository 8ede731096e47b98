//! Looking into a controller's SQLite files with `sqlite3`, beside the running controller.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Place;
use super::json::{list, text};
use crate::command::{call, output_of, run, system};
use crate::packages;

/// What the offline verifier said of a database.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Whether it found the database sound.
    pub sound: bool,
    /// Everything it printed.
    pub text: String,
}

impl Place {
    /// A consistent copy, at the operator's place, of what a controller has written to its database
    /// of live objects.
    ///
    /// # Errors
    /// When the database is not where it should be.
    pub fn copy_of_shadow(&self, controller: &str) -> Result<PathBuf> {
        let shadow = self.store(controller)?.join("shadow");
        let current = fs::read_to_string(shadow.join("CURRENT"))
            .with_context(|| format!("reading {}/CURRENT", shadow.display()))?;
        let copy = self.rig.lan().directory().join(format!("{controller}.db"));
        let _ = fs::remove_file(&copy);
        output_of(
            system("sqlite3")
                .arg("-readonly")
                .arg(shadow.join(current.trim()))
                .arg(format!("VACUUM INTO '{}'", copy.display())),
        )?;
        Ok(copy)
    }
}

/// Runs SQL on a database and returns what it prints.
///
/// # Errors
/// When sqlite3 refuses it.
pub fn sql(database: &Path, statement: &str) -> Result<String> {
    let printed = call("sqlite3", [database.as_os_str(), statement.as_ref()])?;
    Ok(printed.trim().to_owned())
}

/// Has the controller's offline verifier judge a database: all ledgers and indexes, re-derived from
/// its rows alone.
///
/// # Errors
/// When the verifier cannot be started.
pub fn verify(database: &Path) -> Result<Verdict> {
    let output = run(system(packages::own_binary("virtflow-controller")?)
        .args(["verify", "--db"])
        .arg(database))?;
    let mut text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !complaint.trim().is_empty() {
        text.push('\n');
        text.push_str(complaint.trim());
    }
    Ok(Verdict {
        sound: output.status.success(),
        text: text.trim().to_owned(),
    })
}

/// The accounts of a database on which something is charged, as the offline verifier tells them.
///
/// # Errors
/// When the verifier fails.
pub fn accounts_in_use(database: &Path) -> Result<Vec<String>> {
    let printed = output_of(
        system(packages::own_binary("virtflow-controller")?)
            .args(["verify", "--output", "json", "--db"])
            .arg(database),
    )?;
    let value: Value = serde_json::from_str(&printed)?;
    list(&value["accounts"])?
        .iter()
        .map(|account| Ok(text(account, "/account")?.to_owned()))
        .collect()
}
