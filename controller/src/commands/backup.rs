//! `backup`: a folder with the state, the records and the sealed CA, made while the controller runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, Output, print_json};
use crate::daemon::admin::{Request, ask};

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    config: ConfigFile,
    /// A folder that does not exist yet. The seal key is not in it: keep that elsewhere.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn command(backup: Backup) -> anyhow::Result<ExitCode> {
    let config = backup.config.load()?;
    let path = std::path::absolute(&backup.out)?;
    let request = Request::Backup { path: path.clone() };
    let manifest = ask(&config.folders().admin_socket(), &request).await?;
    virtflow_shadow::verify_backup(&path).await?;
    match backup.output {
        Output::Json => print_json(&manifest),
        Output::Text => println!(
            "{}: a verified backup up to index {}; keep the seal key {} apart from it",
            path.display(),
            manifest["index"],
            config.seal_key_file.display()
        ),
    }
    Ok(ExitCode::SUCCESS)
}
